//! Queries: what a request may ask for, as types.
//!
//! `query!` makes a type of the parameters of a route. The parser and the OpenAPI document come from that
//! type, so neither knows a parameter that the other does not. Each may be given once, unknown ones are
//! refused, and so is every value that is not understood, with its parameter and what would be.

use axum::extract::{FromRequestParts, Query};
use axum::http::Uri;
use axum::http::request::Parts;
use utoipa::PartialSchema;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{RefOr, Required, Schema};
use vedette_collector::clinfo::availability;
use vedette_core::model::Severity;
use vedette_core::record::Code;
use vedette_core::time::WallTime;

use crate::Problem;

#[doc(hidden)]
pub use utoipa::{IntoParams, openapi::path as openapi};

/// A type that the parameters of a query are read into.
pub trait Parameters: Sized {
    /// Their names, in the order in which they are told.
    fn names() -> Vec<&'static str>;

    /// Reads them.
    ///
    /// # Errors
    /// A value that is not accepted.
    fn read(given: &Given) -> Result<Self, Problem>;
}

/// Parameters of a route, and those that it has in common with others.
impl<A: Parameters, B: Parameters> Parameters for (A, B) {
    fn names() -> Vec<&'static str> {
        [A::names(), B::names()].concat()
    }

    fn read(given: &Given) -> Result<Self, Problem> {
        Ok((A::read(given)?, B::read(given)?))
    }
}

/// A type that is read from the value of a parameter.
pub trait Value: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// A text that is none, as a problem that names the parameter.
    fn read(name: &str, text: &str) -> Result<Self, Problem>;

    /// Its schema in the OpenAPI document.
    fn schema() -> RefOr<Schema> {
        <String as PartialSchema>::schema()
    }
}

/// Makes a type of the parameters of a query: each field is a parameter that may be given, and its comment
/// is the description in the OpenAPI document.
#[macro_export]
macro_rules! query {
    (
        $(#[$about:meta])*
        $vis:vis struct $query:ident { $($(#[doc = $doc:literal])+ $name:ident: $value:ty,)+ }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        $vis struct $query { $($(#[doc = $doc])+ $vis $name: Option<$value>,)+ }

        impl $crate::query::Parameters for $query {
            fn names() -> Vec<&'static str> {
                vec![$(stringify!($name)),+]
            }

            fn read(given: &$crate::query::Given) -> Result<Self, $crate::Problem> {
                Ok(Self { $($name: given.value(stringify!($name))?),+ })
            }
        }

        impl $crate::query::IntoParams for $query {
            fn into_params(
                _: impl Fn() -> Option<$crate::query::openapi::ParameterIn>,
            ) -> Vec<$crate::query::openapi::Parameter> {
                vec![$($crate::query::parameter::<$value>(stringify!($name), &[$($doc),+])),+]
            }
        }
    };
}

/// A parameter as the OpenAPI document has it.
pub fn parameter<T: Value>(name: &str, about: &[&str]) -> Parameter {
    let about: Vec<&str> = about.iter().map(|line| line.trim()).collect();
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .description(Some(about.join(" ")))
        .required(Required::False)
        .schema(Some(T::schema()))
        .build()
}

/// The query of a request: names and values.
#[derive(Clone, Debug)]
pub struct Given(Vec<(String, String)>);

impl Given {
    fn of(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|error| {
            Problem::bad_parameter(
                format!("The query cannot be read: {}.", error.body_text()),
                "Write it as name=value&name=value.",
            )
        })?;
        for (place, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let advice = match known {
                    [] => "Leave it out: nothing can be asked for here.".into(),
                    _ => format!("Use one of {}.", known.join(", ")),
                };
                let detail = format!("There is no parameter {name:?} here.");
                return Err(Problem::bad_parameter(detail, advice));
            }
            if pairs[..place].iter().any(|(earlier, _)| earlier == name) {
                return Err(Problem::bad_parameter(
                    format!("The parameter {name:?} was given twice."),
                    "Give it once.",
                ));
            }
        }
        Ok(Self(pairs))
    }

    /// The value of a parameter, where it is given.
    ///
    /// # Errors
    /// A value that is not accepted.
    pub fn value<T: Value>(&self, name: &str) -> Result<Option<T>, Problem> {
        let given = self.0.iter().find(|(own, _)| own == name);
        given.map(|(_, text)| T::read(name, text)).transpose()
    }
}

/// The query of a request as a type of `query!`, or as a pair of such types.
#[derive(Clone, Copy, Debug)]
pub struct Asked<T>(pub T);

impl<T: Parameters> Asked<T> {
    fn of(uri: &Uri) -> Result<Self, Problem> {
        T::read(&Given::of(uri, &T::names())?).map(Self)
    }
}

impl<T: Parameters, S: Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of(&parts.uri)
    }
}

impl Value for String {
    fn read(_: &str, text: &str) -> Result<Self, Problem> {
        Ok(text.to_owned())
    }
}

impl Value for u64 {
    fn read(name: &str, text: &str) -> Result<Self, Problem> {
        let bad = |_| {
            let advice = format!("Write it as {name}=42.");
            Problem::bad_value(name, text, "is not a whole number", advice)
        };
        text.parse().map_err(bad)
    }

    fn schema() -> RefOr<Schema> {
        <Self as PartialSchema>::schema()
    }
}

/// Number of entries of an answer: at least one, at most `MOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit<const MOST: u64>(pub(crate) u64);

impl<const MOST: u64> Value for Limit<MOST> {
    fn read(name: &str, text: &str) -> Result<Self, Problem> {
        let limit = u64::read(name, text)?;
        if (1..=MOST).contains(&limit) {
            return Ok(Self(limit));
        }
        let advice = format!("Give a number from 1 to {MOST}.");
        Err(Problem::bad_value(name, text, "is out of range", advice))
    }

    fn schema() -> RefOr<Schema> {
        <u64 as PartialSchema>::schema()
    }
}

impl Value for Severity {
    fn read(name: &str, text: &str) -> Result<Self, Problem> {
        let names = Self::ALL.iter().map(|severity| severity.name());
        Self::from_name(text).ok_or_else(|| unknown_name(name, text, names))
    }
}

impl Value for Code {
    fn read(name: &str, text: &str) -> Result<Self, Problem> {
        let names = Self::ALL.iter().map(|code| code.name());
        Self::from_name(text).ok_or_else(|| unknown_name(name, text, names))
    }
}

impl Value for WallTime {
    fn read(name: &str, text: &str) -> Result<Self, Problem> {
        availability::moment(text).ok_or_else(|| {
            let advice = format!("Write it as {name}=2026-11, 2026-11-01 or 2026-11-01T12:00:00Z.");
            Problem::bad_value(name, text, "is no time", advice)
        })
    }
}

/// The problem of a value that is none of `names`.
pub fn unknown_name<'n>(name: &str, text: &str, names: impl Iterator<Item = &'n str>) -> Problem {
    let advice = format!("Give one of {}.", names.collect::<Vec<_>>().join(", "));
    Problem::bad_value(name, text, "is not known", advice)
}

#[cfg(test)]
mod tests;
