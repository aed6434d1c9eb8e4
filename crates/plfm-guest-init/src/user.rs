//! Users and groups as an OCI image means them: looked up in the image's own `/etc/passwd` and `/etc/group`.
//!
//! `name`, `uid`, `name:group`, `uid:gid`. A number without an entry has group 0 and home `/`; a name without an
//! entry is an error. (OCI image-spec, config.md, "User".)

use crate::fs;

/// Whom a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: Vec<&'a str>,
}

fn passwd_entries(text: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields.as_slice() else {
            return None;
        };
        Some(PasswdEntry {
            name,
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home,
        })
    })
}

fn group_entries(text: &str) -> impl Iterator<Item = GroupEntry<'_>> {
    text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, gid, members, ..] = fields.as_slice() else {
            return None;
        };
        Some(GroupEntry {
            name,
            gid: gid.parse().ok()?,
            members: members.split(',').collect(),
        })
    })
}

/// Looks `user` and `extra_groups` up in the files of this root. The error is for people.
pub fn look_up(user: &str, extra_groups: &[String]) -> Result<Identity, String> {
    let read = |path: &str| match fs::read_small(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(format!("cannot read the image's {path}: {error}")),
    };
    resolve(user, extra_groups, &read("/etc/passwd")?, &read("/etc/group")?)
}

fn resolve(user: &str, extra_groups: &[String], passwd: &str, group: &str) -> Result<Identity, String> {
    let (name, group_name) = match user.split_once(':') {
        Some((name, group_name)) => (name, Some(group_name)),
        None => (user, None),
    };
    let number = name.parse::<u32>().ok();
    // A name that looks like a number is a name first, as in the image specification's reference code.
    let entry = passwd_entries(passwd)
        .find(|entry| entry.name == name)
        .or_else(|| passwd_entries(passwd).find(|entry| Some(entry.uid) == number));
    let (uid, primary, home, entry_name) = match (&entry, number) {
        (Some(entry), _) => (entry.uid, entry.gid, entry.home, Some(entry.name)),
        (None, Some(uid)) => (uid, 0, "/", None),
        (None, None) => return Err(format!("the image's /etc/passwd has no user {name:?}")),
    };
    let gid = match group_name {
        Some(group_name) => resolve_group(group_name, group)?,
        None => primary,
    };
    let mut groups: Vec<u32> = match (group_name, entry_name) {
        // An explicit group replaces the memberships of the image.
        (None, Some(name)) => group_entries(group)
            .filter(|entry| entry.members.contains(&name))
            .map(|entry| entry.gid)
            .collect(),
        (Some(_), _) | (None, None) => Vec::new(),
    };
    for extra in extra_groups {
        groups.push(resolve_group(extra, group)?);
    }
    groups.sort_unstable();
    groups.dedup();
    let home = if home.is_empty() { "/" } else { home };
    Ok(Identity {
        uid,
        gid,
        groups,
        home: home.to_owned(),
    })
}

fn resolve_group(name: &str, group: &str) -> Result<u32, String> {
    if let Some(entry) = group_entries(group).find(|entry| entry.name == name) {
        return Ok(entry.gid);
    }
    name.parse()
        .map_err(|_| format!("the image's /etc/group has no group {name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\nbroken line\n7:x:70:71::/seven:\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,app\nvideo:x:44:app\nappgrp:x:1001:\n";

    fn who(user: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
        let Identity {
            uid,
            gid,
            groups,
            home,
        } = resolve(user, &[], PASSWD, GROUP)?;
        Ok((uid, gid, groups, home))
    }

    #[test]
    fn a_name_has_its_entrys_ids_and_memberships() {
        assert_eq!(
            who("app").unwrap(),
            (1000, 1001, vec![10, 44], "/home/app".into())
        );
    }

    #[test]
    fn a_number_with_an_entry_is_that_user_and_one_without_has_group_0() {
        assert_eq!(
            who("1000").unwrap(),
            (1000, 1001, vec![10, 44], "/home/app".into())
        );
        assert_eq!(who("4242").unwrap(), (4242, 0, vec![], "/".into()));
    }

    #[test]
    fn an_explicit_group_wins_by_name_or_number() {
        assert_eq!(who("app:video").unwrap(), (1000, 44, vec![], "/home/app".into()));
        assert_eq!(who("4242:77").unwrap(), (4242, 77, vec![], "/".into()));
    }

    #[test]
    fn a_name_that_looks_like_a_number_is_a_name_first() {
        assert_eq!(who("7").unwrap(), (70, 71, vec![], "/seven".into()));
    }

    #[test]
    fn unknown_names_are_errors() {
        assert!(who("nobody").unwrap_err().contains("nobody"));
        assert!(who("app:nogroup").unwrap_err().contains("nogroup"));
        assert!(who("").is_err());
    }

    #[test]
    fn extra_groups_are_added_by_name_or_number() {
        let groups = ["video".to_owned(), "99".to_owned()];
        assert_eq!(resolve("0", &groups, PASSWD, GROUP).unwrap().groups, [10, 44, 99]);
        assert_eq!(resolve("0", &groups, "", "video:x:5:\n").unwrap().groups, [5, 99]);
    }
}
