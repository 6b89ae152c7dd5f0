//! What AWS KMS says when it does not do what it was asked: no, or nothing that counts.

use std::{error::Error, fmt};

use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use gapura_filters::contract::{CANNOT_ASK, NO_ANSWER, SAYS_NO};

use super::channel;

/// The difference decides over keys: a no ends a lease at once, silence lets it run to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The service has looked at the question, and its answer will not change by itself.
    No(Said),
    /// It was not reached, was slow or overloaded, did not know us, or gave an answer that is none.
    Away(Said),
}

/// A code of the service or words of ours: never a text from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Code(String),
    Words(&'static str),
}

/// Codes by which KMS says no to a key or to a message. Those about credentials, throttling and its own health are not among them.
const NO: [&str; 11] = [
    "AccessDeniedException",
    "DisabledException",
    "IncorrectKeyException",
    "InvalidArnException",
    "InvalidCiphertextException",
    "InvalidGrantTokenException",
    "InvalidKeyUsageException",
    "KMSInvalidStateException",
    "NotFoundException",
    "UnsupportedOperationException",
    "ValidationException",
];

const IN_THE_CLEAR: Trouble = Trouble::no(
    "where it is reached is neither https:// nor on this machine: keys would travel in the clear; see `endpoint` of `[kms]`, \
     AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_KMS and `endpoint_url` of the AWS profile",
);

impl Trouble {
    pub(super) const fn away(words: &'static str) -> Self {
        Self::Away(Said::Words(words))
    }
    pub(super) const fn no(words: &'static str) -> Self {
        Self::No(Said::Words(words))
    }

    /// The ciphertext is none of this key: the fault of whoever sent it.
    pub(super) fn is_of_the_message(&self) -> bool {
        let codes = ["InvalidCiphertextException", "IncorrectKeyException", "ValidationException"];
        matches!(self, Self::No(Said::Code(code)) if codes.contains(&code.as_str()))
    }
}

pub(super) fn trouble<E, R>(error: &SdkError<E, R>) -> Trouble
where
    E: ProvideErrorMetadata + Error + 'static,
    R: fmt::Debug + 'static,
{
    match error {
        _ if channel::was_in_the_clear(error) => IN_THE_CLEAR,
        SdkError::ServiceError(answer) => match answer.err().code() {
            Some(code) if NO.contains(&code) => Trouble::No(Said::Code(code.to_owned())),
            Some(code) if code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                Trouble::Away(Said::Code(code.to_owned()))
            }
            _ => Trouble::away("its answer cannot be read"),
        },
        SdkError::ResponseError(_) => Trouble::away("its answer cannot be read"),
        SdkError::TimeoutError(_) => Trouble::away("no answer in time"),
        SdkError::DispatchFailure(why) if why.is_timeout() => Trouble::away("no answer in time"),
        SdkError::DispatchFailure(why) if why.is_io() => Trouble::away("it cannot be reached"),
        _ => Trouble::away("it cannot be asked: no credentials, or no way to it"),
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => {
                f.write_str(code)?;
                f.write_str(match code.as_str() {
                    "InvalidCiphertextException" => ": no ciphertext of its keys, or of another encryption context",
                    "InvalidArnException" => ": this is the ARN of no key",
                    "UnsupportedOperationException" => ": the key is of another kind than this asks for",
                    "AccessDeniedException" => ": the key's policy or ours does not let us, or there is no such key",
                    "DisabledException" => ": the key is disabled",
                    "KMSInvalidStateException" => ": the key is about to be deleted, or has no material",
                    "NotFoundException" => ": there is no such key in this region",
                    _ => "",
                })
            }
            Self::Words(words) => f.write_str(words),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Ours: there was no question.
            Self::No(said @ Said::Words(_)) => write!(f, "{CANNOT_ASK}: {said}"),
            Self::No(said) => write!(f, "{SAYS_NO}: {said}"),
            Self::Away(said) => write!(f, "{NO_ANSWER}: {said}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_kms::{error::ErrorMetadata, operation::decrypt::DecryptError};

    use super::*;

    fn told(code: &str) -> Trouble {
        let metadata = ErrorMetadata::builder().code(code).message("a text from outside").build();
        trouble(&SdkError::service_error(DecryptError::generic(metadata), ()))
    }

    #[test]
    fn what_no_repetition_changes_is_a_no() {
        for code in NO {
            assert!(matches!(told(code), Trouble::No(_)), "{code}");
        }
        for code in
            ["ThrottlingException", "KMSInternalException", "DependencyTimeoutException", "ExpiredTokenException"]
        {
            assert!(matches!(told(code), Trouble::Away(_)), "{code}");
        }
        let said = told("UnsupportedOperationException").to_string();
        assert!(said.contains("no: UnsupportedOperationException") && !said.contains("outside"), "{said}");
    }
}
