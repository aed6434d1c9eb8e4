//! How a layer's entries change the tree.
//!
//! Every name remembers the last layer that made it or something below it, so that a whiteout takes away what earlier
//! layers brought and nothing of its own layer, in whatever order the entries come.

use crate::tree::{Child, Directory, Inode, InodeId, Meta, Name, Node, PathRefusal, Tree};

/// Why a hard link cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LinkRefusal {
    #[error("does not exist")]
    Missing,
    #[error("is a directory")]
    Directory,
    #[error("is the link itself")]
    Itself,
}

impl Tree {
    /// Makes a directory, or gives an existing one other metadata.
    pub(crate) fn put_directory(
        &mut self,
        parent: &[Name],
        name: Name,
        meta: Meta,
        layer: u32,
    ) -> Result<(), PathRefusal> {
        let parent = self.open_directory(parent, layer)?;
        match parent.children.get_mut(&name) {
            Some(Child {
                node: Node::Directory(directory),
                touched,
            }) => {
                directory.meta = meta;
                *touched = layer;
            }
            _ => {
                let node = Node::Directory(Directory::new(meta));
                parent.children.insert(name, Child { touched: layer, node });
            }
        }
        Ok(())
    }

    /// Makes a file in place of whatever has the name.
    pub(crate) fn put_inode(
        &mut self,
        parent: &[Name],
        name: Name,
        inode: Inode,
        layer: u32,
    ) -> Result<(), PathRefusal> {
        let id = InodeId(u32::try_from(self.inodes.len()).unwrap_or(u32::MAX));
        let parent = self.open_directory(parent, layer)?;
        parent.children.insert(
            name,
            Child {
                touched: layer,
                node: Node::Inode(id),
            },
        );
        self.inodes.push(inode);
        Ok(())
    }

    /// The file that a hard link is to lead to.
    pub(crate) fn link_target(&self, parent: &[Name], name: &Name) -> Result<InodeId, LinkRefusal> {
        let child = self
            .directory(parent)
            .and_then(|directory| directory.children.get(name));
        match child.map(|child| &child.node) {
            None => Err(LinkRefusal::Missing),
            Some(Node::Directory(_)) => Err(LinkRefusal::Directory),
            Some(Node::Inode(id)) => Ok(*id),
        }
    }

    /// Makes a second name for a file.
    pub(crate) fn put_link(
        &mut self,
        parent: &[Name],
        name: Name,
        id: InodeId,
        layer: u32,
    ) -> Result<(), PathRefusal> {
        let parent = self.open_directory(parent, layer)?;
        parent.children.insert(
            name,
            Child {
                touched: layer,
                node: Node::Inode(id),
            },
        );
        Ok(())
    }

    /// Takes away what earlier layers have under a name.
    pub(crate) fn white_out(&mut self, parent: &[Name], name: &[u8], layer: u32) {
        let Some(directory) = self.existing_directory(parent) else {
            return;
        };
        match directory.children.get_mut(name) {
            Some(child) if child.touched == layer => {
                if let Node::Directory(directory) = &mut child.node {
                    remove_earlier(directory, layer);
                }
            }
            _ => drop(directory.children.remove(name)),
        }
    }

    /// Takes away everything that earlier layers have in a directory.
    pub(crate) fn make_opaque(&mut self, path: &[Name], layer: u32) {
        if let Some(directory) = self.existing_directory(path) {
            remove_earlier(directory, layer);
        }
    }

    fn existing_directory(&mut self, path: &[Name]) -> Option<&mut Directory> {
        path.iter().try_fold(&mut self.root, |directory, name| {
            match &mut directory.children.get_mut(name)?.node {
                Node::Directory(child) => Some(child),
                Node::Inode(_) => None,
            }
        })
    }

    /// The directory at a resolved path, made where it is missing; what leads to it is touched by this layer.
    fn open_directory(&mut self, path: &[Name], layer: u32) -> Result<&mut Directory, PathRefusal> {
        path.iter().try_fold(&mut self.root, |directory, name| {
            let child = directory.children.entry(name.clone()).or_insert_with(|| Child {
                touched: layer,
                node: Node::Directory(Directory::new(Meta::of_implied_directory())),
            });
            child.touched = layer;
            match &mut child.node {
                Node::Directory(child) => Ok(child),
                Node::Inode(_) => Err(PathRefusal::NotDirectory),
            }
        })
    }
}

fn remove_earlier(directory: &mut Directory, layer: u32) {
    directory.children.retain(|_, child| child.touched == layer);
    for child in directory.children.values_mut() {
        if let Node::Directory(directory) = &mut child.node {
            remove_earlier(directory, layer);
        }
    }
}
