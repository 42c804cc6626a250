//! A campaign's texts, as its rows fill them. A message's text is made of its row, always by the same function, and never
//! stored.

use std::collections::BTreeMap;

use chrono::NaiveDate;

use chassis::http::nearest_name;

use crate::{
    domain::{
        audience_file::{FileAudience, Source},
        campaign::{Frozen, Plan},
        link::Links,
        message_id::MessageId,
        parts::{Alphabet, Encoding},
        sender::{ProviderName, SenderKind},
        template::{NoValue, Template, TemplateError, Values},
    },
    storage::{audiences::Name, ledger::Row},
};

/// Why a text can't be. The text is for the person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadText {
    #[error("{0}")]
    Template(#[from] TemplateError),
    #[error("no existe el campo {{{name}}}; {hint}hay: {known}")]
    Unknown {
        name: String,
        /// What was meant, where one is near.
        hint: String,
        known: String,
    },
}

impl BadText {
    fn unknown(name: &str, known: &[&str]) -> Self {
        let hint = nearest_name(name, known).map(|meant| format!("¿quiso decir {{{meant}}}? "));
        Self::Unknown { name: name.to_owned(), hint: hint.unwrap_or_default(), known: known.join(", ") }
    }
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
    /// Of a file's columns, by the names that texts have for them.
    pub columns: Option<&'a BTreeMap<String, String>>,
    /// The link that opts the recipient out.
    pub link: Option<&'a str>,
}

/// The field that has no value of its own: each message's link.
const LINK: &str = "baja";

impl Texts {
    /// Those of a plan to contacts, or to the people of `file`: its columns are fields too.
    ///
    /// # Errors
    /// As [`BadText`] says.
    pub fn of(plan: &Plan, file: Option<&FileAudience>) -> Result<Self, BadText> {
        let mut known: Vec<&str> = match file {
            Some(file) => file.shape.names(),
            None => vec!["nombre", "primer_nombre", "ciudad"],
        };
        known.push(LINK);
        let source = |field: &str| match file {
            Some(file) => file.shape.source(field),
            None => Source::of_contacts(field),
        };
        let parse = |text: &str| match Template::parse(text, known.iter().copied()) {
            Err(TemplateError::UnknownField { name, .. }) => Err(BadText::unknown(&name, &known)),
            parsed => parsed.map_err(BadText::from),
        };
        let texts = plan.texts.iter().map(|text| parse(&text.text)).collect::<Result<Vec<_>, _>>()?;
        let mut names: Vec<Name> = Vec::new();
        for text in &texts {
            for field in text.fields().into_iter().filter(|field| *field != LINK) {
                let source = source(field).ok_or_else(|| BadText::unknown(field, &known))?;
                let required = text.requires(field);
                match names.iter_mut().find(|known| known.name == field) {
                    Some(known) => known.required |= required,
                    None => names.push(Name { name: field.to_owned(), required, source }),
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
        let none = BTreeMap::new();
        let (name, city, opt_out_link) = (given.name, given.city, given.link);
        let values = Values { name, city, opt_out_link, columns: given.columns.unwrap_or(&none) };
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
        let (mut columns, mut full_name, mut city) = (BTreeMap::new(), None, None);
        for (name, value) in self.names.iter().zip(vars) {
            match name.source {
                Source::FullName | Source::FirstNameIn(_) => full_name = Some(value.as_str()),
                Source::City => city = Some(value.as_str()),
                Source::Column(_) => drop(columns.insert(name.name.clone(), value.clone())),
            }
        }
        let link = self.links.as_ref();
        let link = link.map(|(links, date, campaign)| {
            links.url(MessageId { date: *date, campaign: *campaign, position })
        });
        let values = Values { name: full_name, city, opt_out_link: link.as_deref(), columns: &columns };
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
