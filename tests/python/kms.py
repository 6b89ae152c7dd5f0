"""The API of AWS KMS for `tests/promises/kms.rs`: moto's server, and what moto leaves out of what AWS documents.

Prints its port, and ends with its standard input. `POST /_test/mode` says how it answers from then on: "" as KMS does, "hang" not
until the mode changes, "garbage" with what is no answer, "error" and "throttle" and "deny" as AWS would. `GET /_test/calls` tells
how often each operation was asked for.
"""

import collections
import json
import sys
import threading

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from moto.core.exceptions import JsonRESTError
from moto.kms.models import KmsBackend
from moto.kms.responses import KmsResponse
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


class Refused(JsonRESTError):
    code = 400


# --- what AWS documents and moto does not do ----------------------------------------------------------


def must_be_enabled(key):
    if key.key_state == "Disabled":
        raise Refused("DisabledException", f"{key.arn} is disabled.")


plain_decrypt = KmsBackend.decrypt


def decrypt(self, ciphertext_blob, encryption_context, key_id=None):
    plaintext, arn = plain_decrypt(self, ciphertext_blob, encryption_context, key_id)
    must_be_enabled(self.keys[arn.split("/")[-1]])
    return plaintext, arn


KmsBackend.decrypt = decrypt

symmetric_response = KmsResponse.decrypt


def decrypt_response(self):
    """API_Decrypt: with EncryptionAlgorithm a message to a key pair."""
    if self._get_param("EncryptionAlgorithm") != "RSAES_OAEP_SHA_256":
        return symmetric_response(self)
    import base64

    key = self.kms_backend.describe_key(self._get_param("KeyId"))
    must_be_enabled(key)
    if key.key_usage != "ENCRYPT_DECRYPT" or not key.key_spec.startswith("RSA_"):
        raise Refused("InvalidKeyUsageException", f"{key.arn} does not decrypt.")
    oaep = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
    # moto's base class has decoded the blob.
    blob = self._get_param("CiphertextBlob")
    try:
        plaintext = key.private_key.private_key.decrypt(blob, oaep)
    except ValueError:
        raise Refused("InvalidCiphertextException", None)
    answer = {"Plaintext": base64.b64encode(plaintext).decode(), "KeyId": key.arn, "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}
    return json.dumps(answer)


KmsResponse.decrypt = decrypt_response

plain_sign = KmsBackend.sign
digests = threading.local()


def sign(self, key_id, message, signing_algorithm):
    """API_Sign: a message of more than 4096 bytes only as its digest."""
    key = self.describe_key(key_id)
    must_be_enabled(key)
    if len(message) > 4096:
        raise Refused("ValidationException", "message: length must be at most 4096")
    if not getattr(digests, "digest", False):
        return plain_sign(self, key_id, message, signing_algorithm)
    private = key.private_key.private_key
    hashed = utils.Prehashed(hashes.SHA256())
    if isinstance(private, rsa.RSAPrivateKey):
        signature = private.sign(message, padding.PKCS1v15(), hashed)
    else:
        signature = private.sign(message, ec.ECDSA(hashed))
    return key.arn, signature, signing_algorithm


KmsBackend.sign = sign

plain_sign_response = KmsResponse.sign


def sign_response(self):
    digests.digest = self._get_param("MessageType") == "DIGEST"
    return plain_sign_response(self)


KmsResponse.sign = sign_response

# --- the server ---------------------------------------------------------------------------------------

state = threading.Condition()
mode = ""
calls = collections.Counter()
moto = DomainDispatcherApplication(create_backend_app)


def said(start_response, status, body, kind="application/x-amz-json-1.1"):
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]


def application(environ, start_response):
    global mode
    path = environ["PATH_INFO"]
    if path == "/_test/mode":
        length = int(environ.get("CONTENT_LENGTH") or 0)
        with state:
            mode = environ["wsgi.input"].read(length).decode()
            state.notify_all()
        return said(start_response, "200 OK", b"")
    if path == "/_test/calls":
        return said(start_response, "200 OK", json.dumps(calls).encode())
    # The test's own questions are always answered.
    if environ.get("HTTP_X_TEST"):
        return moto(environ, start_response)
    with state:
        calls[environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]] += 1
        state.wait_for(lambda: mode != "hang")
        now = mode
    if now == "garbage":
        return said(start_response, "200 OK", b"<html>not what you asked</html>", "text/html")
    for name, status, code in [
        ("error", "500 Internal Server Error", "KMSInternalException"),
        ("throttle", "400 Bad Request", "ThrottlingException"),
        ("deny", "400 Bad Request", "AccessDeniedException"),
    ]:
        if now == name:
            return said(start_response, status, json.dumps({"__type": code, "message": "as the test says"}).encode())
    return moto(environ, start_response)


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *_):
        pass


server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
