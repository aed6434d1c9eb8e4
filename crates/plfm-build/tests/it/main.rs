//! Behaviour of plfm-build from the outside.

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod guest_init;
#[cfg(test)]
mod kernel;
#[cfg(test)]
mod kernel_docs;
#[cfg(test)]
mod provenance;
#[cfg(test)]
mod release;
#[cfg(test)]
mod tamper;
