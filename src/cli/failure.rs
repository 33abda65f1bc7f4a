//! Why a subcommand failed, and the exit code for it.

use std::error::Error;
use std::process::ExitCode;

/// The exit code for a wrong configuration; every other failure is 1.
const WRONG_CONFIGURATION: u8 = 2;

/// Why a subcommand failed. It is no error type itself, so that every error becomes one by `?`.
#[derive(Debug)]
pub enum Failure {
    /// The configuration or an argument is wrong.
    Configuration(Box<dyn Error>),
    /// Anything else.
    Other(Box<dyn Error>),
    /// The subcommand has printed what is wrong.
    Printed,
}

impl Failure {
    /// A failure that is nothing but a text.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Other(text.into().into())
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Configuration(_) => ExitCode::from(WRONG_CONFIGURATION),
            Self::Other(_) | Self::Printed => ExitCode::FAILURE,
        }
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}
