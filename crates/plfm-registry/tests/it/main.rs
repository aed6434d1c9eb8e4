//! The publishing side from the outside, read back with `tough`'s own client.

#[cfg(test)]
mod conflict;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod fault;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod gc;
#[cfg(test)]
mod publish;
#[cfg(test)]
mod reader;
#[cfg(test)]
mod rotate;
#[cfg(test)]
mod s3;
#[cfg(test)]
mod serve;
