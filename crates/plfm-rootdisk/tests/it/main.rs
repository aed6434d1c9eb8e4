//! Root disks from images that the tests make: hand-made layers, compared with what umoci and the kernel make of them.

mod archive;
mod corpus;
mod erofs_reader;
mod ext4;
mod facts;
mod images;
mod layers;
mod mutation;
mod registry;
mod reproducible;
mod resolve;
mod store;
mod tarball;
mod umoci;
