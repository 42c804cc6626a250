//! A [`Node`] as a type, with errors that say where and what, in Spanish.

use std::fmt;

use serde::{
    Deserializer,
    de::{
        DeserializeSeed, EnumAccess, Error as _, IntoDeserializer as _, MapAccess, SeqAccess, VariantAccess,
        Visitor, value::StringDeserializer,
    },
};

use super::{
    node::Node,
    refusal::{Refusal, Step, Why, in_spanish, one_of},
};

/// What is deserialised.
pub(super) struct Input {
    node: Node,
    /// Whether a text may stand for a number or a truth, as in a query.
    lenient: bool,
}

impl Input {
    /// Of JSON.
    pub fn strict(node: Node) -> Self {
        Self { node, lenient: false }
    }

    /// Of a query or a form.
    pub fn lenient(node: Node) -> Self {
        Self { node, lenient: true }
    }

    fn wrong(&self, expected: &str) -> Refusal {
        Refusal::new(Why::Wrong { value: self.node.shown(), expected: expected.to_owned() })
    }

    /// Visits what is there, and says what was expected if the visitor doesn't take it.
    fn visit<'de, V: Visitor<'de>>(self, visitor: V, expected: &str) -> Result<V::Value, Refusal> {
        let value = self.node.shown();
        self.deserialize_any(visitor).map_err(|refusal| match refusal.why {
            Why::Wrong { .. } | Why::Other { .. } if refusal.path.is_empty() => {
                Refusal::new(Why::Wrong { value, expected: expected.to_owned() })
            }
            _ => refusal,
        })
    }

    fn whole_number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        const EXPECTED: &str = "un número entero que quepa";
        let Node::Text(text) = &self.node else { return self.visit(visitor, EXPECTED) };
        if !self.lenient {
            return Err(self.wrong("un número entero"));
        }
        let value = self.node.shown();
        let expected = |_| Refusal::new(Why::Wrong { value, expected: EXPECTED.to_owned() });
        match (text.parse::<u64>(), text.parse::<i64>()) {
            (Ok(number), _) => visitor.visit_u64::<Refusal>(number).map_err(expected),
            (_, Ok(number)) => visitor.visit_i64::<Refusal>(number).map_err(expected),
            _ => Err(self.wrong("un número entero")),
        }
    }

    fn number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match &self.node {
            Node::Text(text) if self.lenient => match text.parse() {
                Ok(number) => visitor.visit_f64(number),
                Err(_) => Err(self.wrong("un número")),
            },
            _ => self.visit(visitor, "un número"),
        }
    }

    fn object<'de, V: Visitor<'de>>(
        self,
        visitor: V,
        known: Option<&'static [&'static str]>,
    ) -> Result<V::Value, Refusal> {
        let Node::Object(members) = self.node else {
            return Err(self.wrong("un objeto"));
        };
        for (index, (name, _)) in members.iter().enumerate() {
            if let Some(known) = known
                && !known.contains(&name.as_str())
            {
                return Err(Refusal::unknown(name, known));
            }
            if members[..index].iter().any(|(before, _)| before == name) {
                return Err(Refusal::new(Why::Repeated).under(Step::Member(name.clone())));
            }
        }
        visitor.visit_map(Members { members: members.into_iter(), value: None, lenient: self.lenient })
    }
}

impl<'de> Deserializer<'de> for Input {
    type Error = Refusal;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.node {
            Node::Null => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(value),
            Node::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), _, _) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (_, _, Some(number)) => visitor.visit_f64(number),
                _ => Err(Refusal::custom("a number")),
            },
            Node::Text(text) => visitor.visit_string(text),
            Node::List(items) => {
                visitor.visit_seq(Items { items: items.into_iter().enumerate(), lenient: self.lenient })
            }
            Node::Object(_) => self.object(visitor, None),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match &self.node {
            Node::Text(text) if self.lenient => match text.parse() {
                Ok(value) => visitor.visit_bool(value),
                Err(_) => Err(self.wrong("true o false")),
            },
            _ => self.visit(visitor, "true o false"),
        }
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.whole_number(visitor)
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.whole_number(visitor)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.whole_number(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.whole_number(visitor)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.whole_number(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.whole_number(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.whole_number(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.whole_number(visitor)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.number(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.number(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.visit(visitor, "un carácter")
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        // Types that are read from texts say here what they expect, and in English below what is wrong.
        struct Said<'a, V>(&'a V);

        impl<'de, V: Visitor<'de>> fmt::Display for Said<'_, V> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.expecting(f)
            }
        }

        let expected = in_spanish(&Said(&visitor).to_string());
        self.visit(visitor, &expected)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.node {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.visit(visitor, "null")
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.visit(visitor, "null")
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.node {
            Node::List(_) => self.deserialize_any(visitor),
            _ => Err(self.wrong("una lista")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.object(visitor, None)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.object(visitor, Some(fields))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        match self.node {
            Node::Text(name) => visitor.visit_enum(name.into_deserializer()),
            Node::Object(mut members) if members.len() == 1 => match members.pop() {
                Some((name, value)) => {
                    visitor.visit_enum(Variant { name, value: Self { node: value, lenient: self.lenient } })
                }
                None => Err(Refusal::custom("an empty object")),
            },
            _ => Err(self.wrong(&one_of(variants))),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        visitor.visit_unit()
    }
}

struct Members {
    members: std::vec::IntoIter<(String, Node)>,
    value: Option<(String, Node)>,
    lenient: bool,
}

impl<'de> MapAccess<'de> for Members {
    type Error = Refusal;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refusal> {
        let Some((name, value)) = self.members.next() else { return Ok(None) };
        let key: StringDeserializer<Refusal> = name.clone().into_deserializer();
        self.value = Some((name, value));
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refusal> {
        let (name, node) = self.value.take().ok_or_else(|| Refusal::custom("a value before its name"))?;
        seed.deserialize(Input { node, lenient: self.lenient })
            .map_err(|refusal| refusal.under(Step::Member(name)))
    }
}

struct Items {
    items: std::iter::Enumerate<std::vec::IntoIter<Node>>,
    lenient: bool,
}

impl<'de> SeqAccess<'de> for Items {
    type Error = Refusal;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refusal> {
        let Some((index, node)) = self.items.next() else { return Ok(None) };
        let item = seed.deserialize(Input { node, lenient: self.lenient });
        item.map(Some).map_err(|refusal| refusal.under(Step::Item(index)))
    }
}

/// A variant with a value.
struct Variant {
    name: String,
    value: Input,
}

impl<'de> EnumAccess<'de> for Variant {
    type Error = Refusal;
    type Variant = Input;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Input), Refusal> {
        let name: StringDeserializer<Refusal> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self.value))
    }
}

impl<'de> VariantAccess<'de> for Input {
    type Error = Refusal;

    fn unit_variant(self) -> Result<(), Refusal> {
        match self.node {
            Node::Null => Ok(()),
            _ => Err(self.wrong("null")),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Refusal> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.object(visitor, Some(fields))
    }
}
