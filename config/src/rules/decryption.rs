//! Encrypted tokens.

use super::{Rules, at, routes::refer};
use crate::{
    fault::Fault,
    model::{JweAlgorithm, JweContent},
};

pub(super) fn check(rules: &mut Rules<'_>) {
    let config = rules.config;
    for (name, jwt) in &config.jwt {
        let Some(decryption) = &jwt.decryption else { continue };
        let table = at(&["jwt", name, "decryption"]);
        rules.repeated(&table.key("algorithms"), &decryption.algorithms);
        rules.repeated(&table.key("encryption"), &decryption.encryption);
        refer(rules, table.key("keyring"), "keyrings", &decryption.keyring, config.keyrings.keys());
        let Some(ring) = config.keyrings.get(&decryption.keyring) else { continue };
        if !rules.sound(&at(&["keyrings", &decryption.keyring, "kind"])) {
            continue;
        }
        for (i, algorithm) in decryption.algorithms.iter().enumerate() {
            if !algorithm.takes(ring.kind) {
                let (algorithm, kind) = (algorithm.name(), ring.kind.name());
                let message = format!("`{algorithm}` does not decrypt with keys of kind {kind}");
                let fault = Fault::at(table.key("algorithms").index(i), message);
                rules.add(fault.help("remove it, or name a keyring of another kind"));
            }
        }
        // Of other algorithms the content key is made for one token; here it is the secret itself.
        let direct = decryption.algorithms.iter().all(|algorithm| *algorithm == JweAlgorithm::Dir);
        let short = decryption.encryption.iter().position(|content| *content == JweContent::A128Gcm);
        if let (true, Some(i)) = (direct, short) {
            let message = "with `dir` A128GCM takes a secret of 16 bytes, and those of a keyring have 32 or more";
            let fault = Fault::at(table.key("encryption").index(i), message);
            rules.add(fault.help("write \"A256GCM\", for 32 bytes: `openssl rand 32 > FILE`"));
        }
        if decryption.accept_unencrypted {
            let message = "a token that is not encrypted passes as well: whoever sees one can use it";
            let fault = Fault::warning(table.key("accept_unencrypted"), message);
            rules.add(fault.help("only for migrations: remove it once the issuer encrypts"));
        }
    }
}
