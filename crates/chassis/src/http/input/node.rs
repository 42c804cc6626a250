//! JSON as it was sent: each member of an object, in order, also one that is there twice.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::Number;

#[derive(Clone, Debug)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Node {
    /// Of a query or a form.
    pub fn of_pairs(pairs: &[(String, String)]) -> Self {
        Self::Object(pairs.iter().map(|(name, value)| (name.clone(), Self::Text(value.clone()))).collect())
    }

    /// Where the first text is that has a NUL.
    pub fn path_of_nul(&self) -> Option<String> {
        match self {
            Self::Text(text) => text.contains('\0').then(String::new),
            Self::List(items) => items.iter().find_map(Self::path_of_nul),
            Self::Object(members) => members.iter().find_map(|(name, member)| {
                if name.contains('\0') {
                    return Some("?".to_owned());
                }
                let below = member.path_of_nul()?;
                Some(if below.is_empty() { name.clone() } else { format!("{name}.{below}") })
            }),
            Self::Null | Self::Bool(_) | Self::Number(_) => None,
        }
    }

    /// As a message shows it: short.
    pub fn shown(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => {
                let start: String = text.chars().take(60).collect();
                if start.len() < text.len() { format!("{:?}", start + "…") } else { format!("{start:?}") }
            }
            Self::List(_) => "una lista".to_owned(),
            Self::Object(_) => "un objeto".to_owned(),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Bool(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Number(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Number(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Number::from_f64(value).map_or(Node::Null, Node::Number))
            }

            fn visit_str<E>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Text(value.to_owned()))
            }

            fn visit_string<E>(self, value: String) -> Result<Node, E> {
                Ok(Node::Text(value))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Node::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Node, A::Error> {
                let mut object = Vec::new();
                while let Some(member) = members.next_entry()? {
                    object.push(member);
                }
                Ok(Node::Object(object))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}
