//! The account that a command has in its guest, and the environment of a command that asks for nothing. Owns both for
//! the guest's runner and for whoever enters the guest after it. Reads no file.

use std::collections::BTreeMap;

use crate::paths::{CARGO_HOME_GUEST_PATH, CARGO_TARGET_GUEST_PATH, JOB_PATH_TAIL, SYSTEM_BIN_DIR};

/// Name and home of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The login name.
    pub name: String,
    /// The home directory.
    pub home: String,
}

impl Account {
    /// The account of a number in the text of a guest's `/etc/passwd`; one that isn't there is as in our own images.
    #[must_use]
    pub fn find(passwd: &str, uid: u32) -> Account {
        let known = passwd.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, id, _, _, home, _] = fields[..] else {
                return None;
            };
            let absolute = home.starts_with('/') && !name.is_empty();
            (absolute && id.parse() == Ok(uid)).then(|| Account {
                name: name.to_owned(),
                home: home.to_owned(),
            })
        });
        let fallback = || match uid {
            0 => Account {
                name: "root".to_owned(),
                home: "/root".to_owned(),
            },
            _ => Account {
                name: "pikaci".to_owned(),
                home: "/home/pikaci".to_owned(),
            },
        };
        known.unwrap_or_else(fallback)
    }

    /// The environment of a command that asks for nothing.
    #[must_use]
    pub fn default_env(&self) -> BTreeMap<String, String> {
        let home = &self.home;
        let path = format!("{SYSTEM_BIN_DIR}:{JOB_PATH_TAIL}");
        let env = [
            ("CARGO_HOME", CARGO_HOME_GUEST_PATH.to_owned()),
            ("CARGO_INCREMENTAL", "0".to_owned()),
            ("CARGO_TARGET_DIR", CARGO_TARGET_GUEST_PATH.to_owned()),
            ("CARGO_TERM_COLOR", "never".to_owned()),
            ("CI", "true".to_owned()),
            ("HOME", home.clone()),
            ("LANG", "C.UTF-8".to_owned()),
            ("LOGNAME", self.name.clone()),
            ("PATH", path),
            ("SHELL", "/bin/bash".to_owned()),
            ("USER", self.name.clone()),
            ("XDG_CACHE_HOME", format!("{home}/.cache")),
            ("XDG_CONFIG_HOME", format!("{home}/.config")),
            ("XDG_DATA_HOME", format!("{home}/.local/share")),
            ("XDG_STATE_HOME", format!("{home}/.local/state")),
        ];
        env.into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_number() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\nbroken\npikaci:x:1000:1000::/home/ci:/bin/bash\n";
        assert_eq!(
            Account::find(passwd, 1000),
            Account {
                name: "pikaci".into(),
                home: "/home/ci".into()
            }
        );
        assert_eq!(Account::find(passwd, 0).home, "/root");
        assert_eq!(Account::find("", 1000).home, "/home/pikaci");
    }
}
