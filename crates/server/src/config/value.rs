//! What a directive's value is while it is not yet, or no longer, a typed field. Pure; any thread.
//!
//! The table of directives speaks [`Value`]; the rest of the server reads typed fields of
//! [`super::Config`]. [`Typed`] is the bridge, and the only place that converts.

use flintlock_iothreads::CpuList;

use super::types::{
    BindAddress, ClientMemoryLimit, DebugCommand, EndHow, EvictionPolicy, Fsync, NotifyFlags,
    OutputLimits, Secret, StoreKind, Threads,
};
use super::words::WordList;
use crate::log::Level;

/// A parsed value. Which variant it is follows from the syntax of the directive's row.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(super) enum Value {
    /// `yes` or `no`.
    Bool(bool),
    /// A number, within the bounds of the row.
    Int(i64),
    /// `auto` where a number would do.
    Auto,
    /// Bytes of memory.
    Bytes(u64),
    /// A share of memory, 0 to 100.
    Percent(u8),
    /// Index into the names of the row.
    Choice(usize),
    /// Any bytes.
    Text(Vec<u8>),
    /// The words of a directive that takes several, in their canonical form.
    Words(Vec<Vec<u8>>),
}

/// A type that a field of the configuration has.
pub(super) trait Typed: Sized {
    /// The value as the table knows it.
    fn to_value(&self) -> Value;

    /// The field for a value that the row's syntax has let through; None would mean that row and
    /// field do not fit together, which a test over the whole table rules out.
    fn from_value(value: Value) -> Option<Self>;
}

macro_rules! typed_numbers {
    ($($number:ty),+) => {$(
        impl Typed for $number {
            fn to_value(&self) -> Value {
                Value::Int(i64::try_from(*self).unwrap_or(i64::MAX))
            }

            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::Int(number) => Self::try_from(number).ok(),
                    _ => None,
                }
            }
        }
    )+};
}

typed_numbers!(u8, u16, u32, i32, i64, usize);

impl Typed for bool {
    fn to_value(&self) -> Value {
        Value::Bool(*self)
    }

    fn from_value(value: Value) -> Option<Self> {
        if let Value::Bool(flag) = value { Some(flag) } else { None }
    }
}

/// A `u64` is always an amount of memory; plain numbers use the smaller types.
impl Typed for u64 {
    fn to_value(&self) -> Value {
        Value::Bytes(*self)
    }

    fn from_value(value: Value) -> Option<Self> {
        if let Value::Bytes(bytes) = value { Some(bytes) } else { None }
    }
}

impl Typed for ClientMemoryLimit {
    fn to_value(&self) -> Value {
        match *self {
            Self::Bytes(bytes) => Value::Bytes(bytes),
            Self::Percent(share) => Value::Percent(share),
        }
    }

    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Bytes(bytes) => Some(Self::Bytes(bytes)),
            Value::Percent(share) => Some(Self::Percent(share)),
            _ => None,
        }
    }
}

impl Typed for Vec<u8> {
    fn to_value(&self) -> Value {
        Value::Text(self.clone())
    }

    fn from_value(value: Value) -> Option<Self> {
        if let Value::Text(text) = value { Some(text) } else { None }
    }
}

/// The empty text is no list.
impl Typed for Option<CpuList> {
    fn to_value(&self) -> Value {
        Value::Text(self.as_ref().map_or_else(String::new, CpuList::to_string).into_bytes())
    }

    fn from_value(value: Value) -> Option<Self> {
        match String::from_utf8(Vec::from_value(value)?).ok()?.as_str() {
            "" => Some(None),
            text => text.parse().ok().map(Some),
        }
    }
}

impl Typed for Secret {
    fn to_value(&self) -> Value {
        Value::Text(self.expose().to_vec())
    }

    fn from_value(value: Value) -> Option<Self> {
        Vec::from_value(value).map(Self::new)
    }
}

impl Typed for std::path::PathBuf {
    fn to_value(&self) -> Value {
        use std::os::unix::ffi::OsStrExt as _;
        Value::Text(self.as_os_str().as_bytes().to_vec())
    }

    fn from_value(value: Value) -> Option<Self> {
        use std::os::unix::ffi::OsStringExt as _;
        Vec::from_value(value).map(|text| std::ffi::OsString::from_vec(text).into())
    }
}

impl Typed for Threads {
    fn to_value(&self) -> Value {
        match self {
            Self::Auto => Value::Auto,
            Self::Fixed(count) => Value::Int(i64::from(count.get())),
        }
    }

    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Auto => Some(Self::Auto),
            Value::Int(count) => {
                u16::try_from(count).ok().and_then(|count| count.try_into().ok()).map(Self::Fixed)
            }
            _ => None,
        }
    }
}

impl Typed for NotifyFlags {
    fn to_value(&self) -> Value {
        Value::Text(self.to_string().into_bytes())
    }

    fn from_value(value: Value) -> Option<Self> {
        Vec::from_value(value).and_then(|text| Self::parse(&text))
    }
}

macro_rules! typed_words {
    ($($list:ty),+) => {$(
        impl Typed for $list {
            fn to_value(&self) -> Value {
                Value::Words(self.to_words())
            }

            fn from_value(value: Value) -> Option<Self> {
                if let Value::Words(words) = value { Self::from_words(&words) } else { None }
            }
        }
    )+};
}

typed_words!(OutputLimits, EndHow, Vec<BindAddress>);

macro_rules! typed_choices {
    ($($choice:ty),+) => {$(
        impl Typed for $choice {
            fn to_value(&self) -> Value {
                let index = Self::ALL.iter().position(|other| other == self);
                Value::Choice(index.expect("ALL holds every variant"))
            }

            fn from_value(value: Value) -> Option<Self> {
                if let Value::Choice(index) = value { Self::ALL.get(index).copied() } else { None }
            }
        }
    )+};
}

typed_choices!(EvictionPolicy, Fsync, StoreKind, DebugCommand, Level);
