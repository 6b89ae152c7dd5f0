//! Who calls: JWT and API keys.
