//! The publishing side from the outside, read back with `tough`'s own client; and the fetching side, against
//! repositories and servers that a test makes evil.

#[cfg(test)]
mod attack_download;
#[cfg(test)]
mod attack_metadata;
#[cfg(test)]
mod conflict;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod fault;
#[cfg(test)]
mod fetch_crash;
#[cfg(test)]
mod fetch_download;
#[cfg(test)]
mod fetch_fixtures;
#[cfg(test)]
mod fetch_properties;
#[cfg(test)]
mod fetch_published;
#[cfg(test)]
mod fetch_server;
#[cfg(test)]
mod fetch_update;
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
