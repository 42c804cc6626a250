//! A campaign's texts, as its rows fill them. A message's text is made of its row, always by the same function, and never
//! stored.

use std::collections::BTreeMap;

use chrono::NaiveDate;

use crate::{
    domain::{
        campaign::{Frozen, Plan},
        link::Links,
        message_id::MessageId,
        parts::{Alphabet, Encoding},
        sender::{ProviderName, SenderKind},
        template::{NoValue, Template, TemplateError, Values},
    },
    storage::{
        audiences::{Name, OF_CONTACTS},
        ledger::Row,
    },
};

/// Why a text can't be. The text is for the person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadText {
    #[error("{0}")]
    Template(#[from] TemplateError),
    #[error("{{{0}}} no se admite en una campaña a contactos")]
    NotOfContacts(String),
}

/// The texts of a plan, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    names: Vec<Name>,
    texts: Vec<Template>,
    transliterate: bool,
    /// What `{baja}` becomes.
    links: Option<(Links, NaiveDate, i32)>,
    /// Whether each message's only value is what it says.
    verbatim: bool,
}

/// Values that somebody gives, in the place of a contact's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    pub name: Option<&'a str>,
    pub city: Option<&'a str>,
    /// The link that opts the recipient out.
    pub link: Option<&'a str>,
}

/// The field that has no value of its own: each message's link.
const LINK: &str = "baja";

impl Texts {
    /// # Errors
    /// As [`BadText`] says.
    pub fn of(plan: &Plan) -> Result<Self, BadText> {
        let texts = plan.texts.iter().map(|text| Template::parse(&text.text, []));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        let mut names: Vec<Name> = Vec::new();
        for text in &texts {
            // Without any value only what has a default is written.
            for field in text.fields().into_iter().filter(|field| *field != LINK) {
                if !OF_CONTACTS.iter().any(|(known, _)| *known == field) {
                    return Err(BadText::NotOfContacts(field.to_owned()));
                }
                let required = needs(text, field);
                match names.iter_mut().find(|known| known.name == field) {
                    Some(known) => known.required |= required,
                    None => names.push(Name { name: field.to_owned(), required }),
                }
            }
        }
        Ok(Self { names, texts, transliterate: plan.transliterate, links: None, verbatim: false })
    }

    /// Those of single messages: each says what its only value is, as it is.
    pub const fn verbatim() -> Self {
        Self { names: Vec::new(), texts: Vec::new(), transliterate: false, links: None, verbatim: true }
    }

    /// What one of the texts says with these values.
    ///
    /// # Errors
    /// A value is missing, and has no default.
    pub fn with(
        &self,
        variant: usize,
        given: &Given<'_>,
        (provider, kind): (ProviderName, SenderKind),
    ) -> Result<String, NoValue> {
        let columns = BTreeMap::new();
        let (name, city, opt_out_link) = (given.name, given.city, given.link);
        let values = Values { name, city, opt_out_link, columns: &columns };
        let alphabet = self.transliterate.then(|| Alphabet::of(provider, kind));
        self.texts.get(variant).map_or_else(|| Ok(String::new()), |text| text.render(&values, alphabet))
    }

    /// The same as they are written in a campaign that has started: with links, where its texts have them.
    pub fn linked(self, frozen: &Frozen, date: NaiveDate, campaign: i32) -> Self {
        Self { links: frozen.links.clone().map(|links| (links, date, campaign)), ..self }
    }

    /// The same with letters replaced, or as they are.
    pub fn transliterated(&self, transliterate: bool) -> Self {
        Self { transliterate, ..self.clone() }
    }

    /// Whether some text has each message's link.
    pub fn have_links(&self) -> bool {
        self.texts.iter().any(|text| text.fields().contains(&LINK))
    }

    /// Whether every message of the campaign says the same, but for which of the texts it has.
    pub fn are_constant(&self) -> bool {
        self.names.is_empty()
    }

    /// The names in the order of a row's `vars`.
    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// What a message says: as `sender` sends it, where one is known. Empty where a value is missing: such a row is none that
    /// an audience writes.
    pub fn render(&self, row: &Row, sender: Option<(ProviderName, SenderKind)>) -> String {
        self.fill(&row.vars, row.variant, row.position, sender)
    }

    /// The same of a row's values, variant and position.
    pub fn fill(
        &self,
        vars: &[String],
        variant: i16,
        position: i32,
        sender: Option<(ProviderName, SenderKind)>,
    ) -> String {
        if self.verbatim {
            return vars.first().cloned().unwrap_or_default();
        }
        let value = |names: &[&str]| {
            let of = self.names.iter().position(|name| names.contains(&name.name.as_str()));
            of.and_then(|place| vars.get(place)).map(String::as_str)
        };
        let link = self.links.as_ref();
        let link = link.map(|(links, date, campaign)| {
            links.url(MessageId { date: *date, campaign: *campaign, position })
        });
        let columns = BTreeMap::new();
        let values = Values {
            name: value(&["nombre", "primer_nombre"]),
            city: value(&["ciudad"]),
            opt_out_link: link.as_deref(),
            columns: &columns,
        };
        let alphabet =
            sender.filter(|_| self.transliterate).map(|(provider, kind)| Alphabet::of(provider, kind));
        let text = usize::try_from(variant).ok().and_then(|variant| self.texts.get(variant));
        text.and_then(|text| text.render(&values, alphabet).ok()).unwrap_or_default()
    }

    /// What a message says as a sender of this kind sends it through this provider, its encoding, and its parts.
    pub fn write(&self, row: &Row, provider: ProviderName, kind: SenderKind) -> (String, Encoding, u16) {
        let text = self.render(row, Some((provider, kind)));
        let count = Alphabet::of(provider, kind).count(&text);
        (text, count.encoding, count.parts)
    }
}

/// Whether a text can't be written without a value for `field`, all others given.
fn needs(text: &Template, field: &str) -> bool {
    let columns: BTreeMap<String, String> = text
        .fields()
        .into_iter()
        .filter(|other| *other != field)
        .map(|other| (other.to_owned(), "x".to_owned()))
        .collect();
    // A file's own column of names would count as the first name too.
    let values = Values { name: None, city: None, opt_out_link: Some("x"), columns: &columns };
    let first = field == "primer_nombre" && columns.contains_key("nombre");
    first || text.render(&values, None).is_err()
}
