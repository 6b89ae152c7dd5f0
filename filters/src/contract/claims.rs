//! Of a token's claims those that somebody asks for.

/// Claims by the names under which the configuration asks for them. Nobody asks for most, so most are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims(Vec<(String, Claim)>);

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
        self.0.iter().find(|(known, _)| known == name).map(|(_, claim)| claim)
    }
}

impl FromIterator<(String, Claim)> for Claims {
    fn from_iter<I: IntoIterator<Item = (String, Claim)>>(claims: I) -> Self {
        Self(claims.into_iter().collect())
    }
}
