//! `plfm release` from the outside: what it prints, its exit codes, what it leaves on the disk.

#[cfg(test)]
mod build;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod verify;
