//! `plfm image` from the outside, against a real agent: what it prints, its exit codes, what it leaves.

#[cfg(test)]
mod host;
#[cfg(test)]
mod verbs;
#[cfg(test)]
mod words;
