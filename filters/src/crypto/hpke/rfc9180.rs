//! RFC 9180, appendix A.2 and A.5: the suites of the appendix that are spoken here, in base mode. The first message of each,
//! and its exports. (AES-256-GCM stands in the appendix with P-521 only; `tests/node` holds it against another library.)

use super::{suite::receive, *};
use crate::{crypto::testing::unhex, keyring::AgreementKey};

struct Vector {
    curve: Curve,
    key: &'static str,
    public: &'static str,
    enc: &'static str,
    ct: &'static str,
    /// Exporter contexts and what they give.
    exports: [(&'static str, &'static str); 3],
}

/// The same in both.
const INFO: &str = "4f6465206f6e2061204772656369616e2055726e";
const AAD: &str = "436f756e742d30";
const PLAINTEXT: &str = "4265617574792069732074727574682c20747275746820626561757479";

const VECTORS: [Vector; 2] = [
    Vector {
        curve: Curve::X25519,
        key: "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb",
        public: "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a",
        enc: "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a",
        ct: "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28",
        exports: [
            ("", "4bbd6243b8bb54cec311fac9df81841b6fd61f56538a775e7c80a9f40160606e"),
            ("00", "8c1df14732580e5501b00f82b10a1647b40713191b7c1240ac80e2b68808ba69"),
            ("54657374436f6e74657874", "5acb09211139c43b3090489a9da433e8a30ee7188ba8b0a9a1ccf0c229283e53"),
        ],
    },
    Vector {
        curve: Curve::P256,
        key: "a4d1c55836aa30f9b3fbb6ac98d338c877c2867dd3a77396d13f68d3ab150d3b",
        public: "04a697bffde9405c992883c5c439d6cc358170b51af72812333b015621dc0f40bad9bb726f68a5c013806a790ec716ab8669f84f6b694596c2987cf35baba2a006",
        enc: "04c07836a0206e04e31d8ae99bfd549380b072a1b1b82e563c935c095827824fc1559eac6fb9e3c70cd3193968994e7fe9781aa103f5b50e934b5b2f387e381291",
        ct: "6469c41c5c81d3aa85432531ecf6460ec945bde1eb428cb2fedf7a29f5a685b4ccb0d057f03ea2952a27bb458b",
        exports: [
            ("", "9b13c510416ac977b553bf1741018809c246a695f45eff6d3b0356dbefe1e660"),
            ("00", "6c8b7be3a20a5684edecb4253619d9051ce8583baf850e0cb53c402bdcaf8ebb"),
            ("54657374436f6e74657874", "477a50d804c7c51941f69b8e32fe8288386ee1a84905fe4938d58972f24ac938"),
        ],
    },
];

#[test]
fn published_messages_open_and_export() {
    for vector in VECTORS {
        let scalar = unhex(vector.key).try_into().expect("32 bytes");
        let key = AgreementKey::new(vector.curve, &scalar).expect("a key");
        assert_eq!(key.public.agreement_bytes(), unhex(vector.public));
        let receive = |ct: &mut [u8], label| {
            let bound = (&unhex(INFO)[..], &unhex(AAD)[..]);
            receive((&key).into(), Aead::ChaCha20Poly1305, &unhex(vector.enc), bound, ct, &unhex(label))
        };
        for (label, exported) in vector.exports {
            let mut ct = unhex(vector.ct);
            assert_eq!(receive(&mut ct, label).expect("it opens")[..], unhex(exported), "{:?} {label}", vector.curve);
            ct.truncate(ct.len() - TAG);
            assert_eq!(ct, unhex(PLAINTEXT));
        }
        let mut ct = unhex(vector.ct);
        ct[0] ^= 1;
        assert_eq!(receive(&mut ct, "").err(), Some(OpenError));
    }
}
