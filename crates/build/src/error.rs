//! What can go wrong with a build, always with the line at which it did.

use std::fmt::Display;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Dockerfile:{line}: {message}")]
    Line { line: usize, message: String },
    #[error("{0}")]
    Other(String),
    #[error(transparent)]
    Image(#[from] images::Error),
}

impl Error {
    pub fn at(line: usize, message: impl Display) -> Self {
        Self::Line { line, message: message.to_string() }
    }

    /// For `map_err`: what was done at which line.
    pub fn during<E: Display>(line: usize, what: impl Display) -> impl FnOnce(E) -> Self {
        move |error| Self::Line { line, message: format!("{what}: {error}") }
    }

    pub fn other<E: Display>(what: impl Display) -> impl FnOnce(E) -> Self {
        move |error| Self::Other(format!("{what}: {error}"))
    }

    /// Without the line.
    pub fn message(&self) -> &str {
        match self {
            Self::Line { message, .. } | Self::Other(message) => message,
            Self::Image(_) => "",
        }
    }
}
