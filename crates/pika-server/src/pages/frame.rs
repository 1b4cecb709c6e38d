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

const FOR_ALL: &[(&str, &str)] = &[("/agents", "Agents"), ("/docs", "API")];

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
        let links = FOR_ALL.iter();
        links
            .map(|&(href, text)| Link {
                href,
                text,
                here: href == self.here,
            })
            .collect()
    }

    pub(super) fn style(&self) -> String {
        assets::address("pika.css")
    }

    pub(super) fn script(&self) -> String {
        assets::address("pika.js")
    }
}
