"""The service's own API keys, as many services keep them: a table `ApiKey` with a prefix in clear and a salted hash.

The application never reads it: the gateway does (`api_keys.toml`), and takes these keys as they are.

    python api_keys.py app.db create --user-id acme --email pay@acme.example     # prints the key, once
    python api_keys.py app.db revoke PREFIX
"""

import argparse
import hashlib
import secrets
import sqlite3

TABLE = """
CREATE TABLE IF NOT EXISTS "ApiKey" (
    prefix VARCHAR(12) PRIMARY KEY, salt VARCHAR(32) NOT NULL, hashed_key VARCHAR(64) NOT NULL,
    user_id VARCHAR(64) NOT NULL, email VARCHAR(254), scopes JSON NOT NULL DEFAULT '[]',
    expires_at DATETIME, is_active BOOLEAN NOT NULL DEFAULT TRUE, created_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP)
"""


def create(db: sqlite3.Connection, user_id: str, email: str | None) -> str:
    prefix, salt = secrets.token_hex(6), secrets.token_hex(16)
    key = f"{prefix}.{secrets.token_urlsafe(32)}"
    hashed = hashlib.sha256((salt + key).encode()).hexdigest()
    columns = '"ApiKey" (prefix, salt, hashed_key, user_id, email)'
    db.execute(f"INSERT INTO {columns} VALUES (?, ?, ?, ?, ?)", (prefix, salt, hashed, user_id, email))
    return key


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database")
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("create")
    new.add_argument("--user-id", required=True)
    new.add_argument("--email")
    commands.add_parser("revoke").add_argument("prefix")
    given = parser.parse_args()
    with sqlite3.connect(given.database) as db:
        db.execute(TABLE)
        if given.command == "create":
            print(create(db, given.user_id, given.email))
        else:
            db.execute('UPDATE "ApiKey" SET is_active = FALSE WHERE prefix = ?', (given.prefix,))


if __name__ == "__main__":
    main()
