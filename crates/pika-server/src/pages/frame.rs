//! What stands around every page: title, navigation, who is signed in.

use super::assets;

/// Around a page.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) title: String,
    /// Who is signed in.
    pub(crate) who: Option<Who>,
    /// Address of the stream of events that tells when the page is out of date.
    pub(crate) events: Option<String>,
    /// The page's place in the navigation.
    here: &'static str,
}

/// Who is signed in.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    pub(crate) owner_id: String,
    pub(crate) name: String,
    pub(crate) operates: bool,
    /// What each form brings.
    pub(crate) csrf: String,
}

/// A link of the navigation.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) href: &'static str,
    pub(crate) text: &'static str,
    pub(crate) here: bool,
}

const FOR_ALL: &[(&str, &str)] = &[
    ("/agents", "Agents"),
    ("/tokens", "Tokens"),
    ("/docs", "API"),
];
const FOR_OPERATORS: &[(&str, &str)] = &[
    ("/operator", "Overview"),
    ("/operator/agents", "All agents"),
    ("/operator/owners", "Owners"),
    ("/operator/allow-list", "Allow-list"),
    ("/operator/audit", "Audit"),
];

impl Frame {
    pub(crate) fn new(title: impl Into<String>, who: Option<Who>, here: &'static str) -> Frame {
        Frame {
            title: title.into(),
            who,
            events: None,
            here,
        }
    }

    #[must_use]
    pub(crate) fn live(mut self, events: String) -> Frame {
        self.events = Some(events);
        self
    }

    pub(super) fn links(&self) -> Vec<Link> {
        let operates = self.who.as_ref().is_some_and(|who| who.operates);
        let more = FOR_OPERATORS.iter().filter(move |_| operates);
        FOR_ALL
            .iter()
            .chain(more)
            .map(|&(href, text)| Link {
                href,
                text,
                here: href == self.here,
            })
            .collect()
    }

    /// Where a file that the page loads is.
    pub(super) fn file(&self, name: &str) -> String {
        assets::address(name)
    }
}
