//! A whole number of a request.

use std::{fmt, marker::PhantomData};

use serde::{Deserialize, Deserializer, de};

/// A whole number, also where it is written with a point: clients whose language has one kind of
/// number write `64.0` for 64.
///
/// The parser's own reading of an `i128` calls anything else an error of syntax.
///
/// A fraction is an error, and so is a float so large that not every integer has one of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Integer<T>(pub(crate) T);

impl<'de, T: TryFrom<i128>> Deserialize<'de> for Integer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor(PhantomData))
    }
}

struct Visitor<T>(PhantomData<T>);

impl<T: TryFrom<i128>> de::Visitor<'_> for Visitor<T> {
    type Value = Integer<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer of 64 bits")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Integer<T>, E> {
        let found = de::Unexpected::Signed(number);
        T::try_from(number.into()).map(Integer).map_err(|_| E::invalid_value(found, &self))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Integer<T>, E> {
        let found = de::Unexpected::Unsigned(number);
        T::try_from(number.into()).map(Integer).map_err(|_| E::invalid_value(found, &self))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Integer<T>, E> {
        /// Integers up to here have one spelling as a float.
        const MOST: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;
        if number.fract() == 0.0 && number.abs() < MOST {
            return self.visit_i64(number as i64);
        }
        Err(E::invalid_type(de::Unexpected::Float(number), &self))
    }
}
