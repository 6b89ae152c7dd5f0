//! Of a token's claims those that somebody asks for.

/// Claims by the names under which the configuration asks for them. Nobody asks for most, so most are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims {
    kept: Vec<(String, Claim)>,
    confirmation: Confirmation,
}

/// What a token is bound to (`cnf`, RFC 7800): its presenter has to have all of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Confirmation {
    /// SHA-256 of the client's certificate (`x5t#S256`, RFC 8705).
    pub certificate: Option<[u8; 32]>,
    /// The thumbprint of the client's key (`jkt`, RFC 9449).
    pub key: Option<[u8; 32]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// A string, or a whole number of 64 bits as its digits: `7` and `"7"` are one.
    Text(String),
    Bool(bool),
    /// Of such texts only.
    List(Vec<String>),
}

impl Claims {
    pub fn get(&self, name: &str) -> Option<&Claim> {
        self.kept.iter().find(|(known, _)| known == name).map(|(_, claim)| claim)
    }

    pub fn confirmation(&self) -> &Confirmation {
        &self.confirmation
    }

    #[must_use]
    pub fn bound_to(self, confirmation: Confirmation) -> Self {
        Self { confirmation, ..self }
    }
}

impl FromIterator<(String, Claim)> for Claims {
    fn from_iter<I: IntoIterator<Item = (String, Claim)>>(claims: I) -> Self {
        Self { kept: claims.into_iter().collect(), confirmation: Confirmation::default() }
    }
}
