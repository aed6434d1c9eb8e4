//! `plfm admin` from the outside, against a real control plane: what it prints, its exit codes, what it changes.

#[cfg(test)]
mod context;
#[cfg(test)]
mod events;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod host;
#[cfg(test)]
mod hosts;
#[cfg(test)]
mod kernels;
#[cfg(test)]
mod operator;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod redact;
#[cfg(test)]
mod rollouts;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod terminal;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod waiting;
#[cfg(test)]
mod words;
