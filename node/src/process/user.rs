//! As whom a program runs.

use nix::unistd::{Gid, Uid, getgrouplist};

/// A user of this machine, with all groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) groups: Vec<libc::gid_t>,
    home: String,
    name: String,
}

impl User {
    /// Looks a user up; the error is a sentence without full stop.
    pub fn named(name: &str) -> Result<Self, String> {
        let user = match nix::unistd::User::from_name(name) {
            Ok(Some(user)) => user,
            Ok(None) => return Err(format!("there is no user `{name}` here to run it as")),
            Err(error) => return Err(format!("the user `{name}` cannot be looked up: {error}")),
        };
        let groups = std::ffi::CString::new(name)
            .ok()
            .and_then(|name| getgrouplist(&name, user.gid).ok())
            .unwrap_or_else(|| vec![user.gid]);
        Ok(Self {
            uid: user.uid,
            gid: user.gid,
            groups: groups.into_iter().map(Gid::as_raw).collect(),
            home: user.dir.to_string_lossy().into_owned(),
            name: name.to_owned(),
        })
    }

    /// What a program that runs as this user expects in its environment.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [("HOME", self.home.clone()), ("LOGNAME", self.name.clone()), ("USER", self.name.clone())]
    }

    /// Numbers of user and group.
    pub fn numbers(&self) -> (u32, u32) {
        (self.uid.as_raw(), self.gid.as_raw())
    }
}
