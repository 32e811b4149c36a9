//! The JSON of requests, borrowed from their bodies.

/// An object: the fields that are named, each `None` where it is not there or `null`, and all
/// others in `extra`, as they stand.
///
/// A visitor rather than `#[serde(flatten)]`: that one would buffer every value of the object as
/// a tree, which takes many times the body, reads numbers as what they are not, and loses the
/// place of an error. A named field that is there twice is of no certain meaning and an error; of
/// the others all are kept, or none where the shape says `alone`, or only the names of those that ask
/// for something where it says `named`.
macro_rules! shape {
    (
        $(#[$meta:meta])*
        $name:ident<$lt:lifetime> $($alone:ident)? {
            $($(#[$field_meta:meta])* $field:ident $(as $key:literal)?: $ty:ty,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub(crate) struct $name<$lt> {
            $($(#[$field_meta])* pub(crate) $field: Option<$ty>,)*
            /// All other fields, or their names; nothing of a shape that stands alone.
            #[allow(dead_code, reason = "a shape that stands alone has none")]
            pub(crate) extra: $crate::chat::Fields,
            /// Some shapes borrow nothing.
            pub(crate) body: ::std::marker::PhantomData<&$lt str>,
        }

        impl<$lt> $name<$lt> {
            /// Reads the value of the field `name`.
            pub(crate) fn read<A: ::serde::de::MapAccess<$lt>>(
                &mut self,
                name: &str,
                map: &mut A,
            ) -> Result<(), A::Error> {
                match name {
                    $($crate::edge::key!($field $($key)?) => {
                        if self.$field.is_some() {
                            return Err(::serde::de::Error::duplicate_field(
                                $crate::edge::key!($field $($key)?),
                            ));
                        }
                        self.$field = map.next_value()?;
                    })*
                    other => $crate::edge::others!(self, other, map $(, $alone)?),
                }
                Ok(())
            }
        }

        impl<'de: $lt, $lt> ::serde::Deserialize<'de> for $name<$lt> {
            fn deserialize<D: ::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Self, D::Error> {
                struct Visitor;

                impl<'de> ::serde::de::Visitor<'de> for Visitor {
                    type Value = $name<'de>;

                    fn expecting(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: ::serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> Result<Self::Value, A::Error> {
                        let mut shape = $name::default();
                        while let Some($crate::json::Str(name)) = map.next_key()? {
                            shape.read(&name, &mut map)?;
                        }
                        Ok(shape)
                    }
                }

                deserializer.deserialize_map(Visitor)
            }
        }
    };
}

/// What becomes of a field that a shape does not name.
macro_rules! others {
    ($shape:ident, $name:ident, $map:ident) => {{
        let value: &::serde_json::value::RawValue = $map.next_value()?;
        $shape.extra.push($name, value.get());
    }};
    ($shape:ident, $name:ident, $map:ident, named) => {{
        let value: &::serde_json::value::RawValue = $map.next_value()?;
        $shape.extra.note($name, value.get());
    }};
    ($shape:ident, $name:ident, $map:ident, alone) => {{
        let _ = $name;
        $map.next_value::<::serde::de::IgnoredAny>()?;
    }};
}

/// The name that a field has in JSON.
macro_rules! key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

pub(crate) use {key, others, shape};
