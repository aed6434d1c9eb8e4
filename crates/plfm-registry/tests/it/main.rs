//! The publishing side from the outside, read back with `tough`'s own client.

mod conflict;
mod crash;
mod fault;
mod fixture;
mod gc;
mod publish;
mod reader;
mod rotate;
mod s3;
mod serve;
