"""One origin: keys, CORS, what is not there, and the faults that other tests switch on."""

from __future__ import annotations

import time
import uuid

import httpx
import jwt
import pytest

from bridge.sandbox.stack import StackInfo
from tests.fixtures.stack import eventually


@pytest.fixture
def http(example_stack: StackInfo):
    with httpx.Client(base_url=example_stack.url, timeout=30) as client:
        yield client


@pytest.fixture
def faults(example_stack: StackInfo):
    yield example_stack.faults
    example_stack.faults.heal()


def who(http: httpx.Client, key: str, token: str | None = None) -> httpx.Response:
    headers = {"apikey": key} | ({"Authorization": f"Bearer {token}"} if token else {})
    return http.post("/rest/v1/rpc/who_am_i", headers=headers, json={})


class TestKeys:
    def test_both_kinds_of_keys_name_the_same_roles(self, http, example_stack):
        roles = {
            example_stack.anon_key: "anon",
            example_stack.publishable_key: "anon",
            example_stack.service_role_key: "service_role",
            example_stack.secret_key: "service_role",
        }
        for key, role in roles.items():
            for token in (None, key):  # clients send the key as bearer too
                assert who(http, key, token).json()["role"] == role

    def test_a_token_outranks_the_key(self, http, example_stack):
        claims = {"role": "authenticated", "sub": str(uuid.uuid4()), "exp": time.time() + 60}
        token = jwt.encode(claims, example_stack.jwt_secret, "HS256")
        assert who(http, example_stack.anon_key, token).json()["role"] == "authenticated"

    def test_without_a_key_of_the_project_nothing_is_answered(self, http, example_stack):
        stranger = jwt.encode({"role": "service_role", "exp": time.time() + 60}, "x" * 32, "HS256")
        for key in ("", "nonsense", "sb_secret_nonsense", stranger):
            for path in ("/rest/v1/rooms", "/auth/v1/user", "/storage/v1/bucket"):
                assert http.get(path, headers={"apikey": key}).status_code == 401

    @pytest.mark.parametrize(
        ("secret", "expires_in_s", "code"), [("x" * 40, 60, "PGRST301"), (None, -1, "PGRST303")]
    )
    def test_bad_tokens_are_refused(self, http, example_stack, secret, expires_in_s, code):
        claims = {"role": "authenticated", "exp": time.time() + expires_in_s}
        token = jwt.encode(claims, secret or example_stack.jwt_secret, "HS256")
        answer = who(http, example_stack.anon_key, token)
        assert (answer.status_code, answer.json()["code"]) == (401, code)

    def test_a_token_cannot_name_a_role_that_the_login_is_not(self, http, example_stack):
        for role in ("postgres", "supabase_admin", "nobody"):
            claims = {"role": role, "exp": time.time() + 60}
            token = jwt.encode(claims, example_stack.jwt_secret, "HS256")
            answer = who(http, example_stack.anon_key, token)
            assert answer.status_code in {400, 403}, answer.text


class TestRest:
    def get(
        self, http: httpx.Client, example_stack: StackInfo, path: str, **headers: str
    ) -> httpx.Response:
        return http.get(path, headers={"apikey": example_stack.secret_key, **headers})

    @pytest.mark.parametrize(
        ("headers", "status", "code"),
        [
            ({"Accept": "text/csv"}, 406, "PGRST107"),
            ({"Accept-Profile": "auth"}, 406, "PGRST106"),
            ({"Prefer": "handling=strict, nonsense=1"}, 400, "PGRST122"),
            ({"Prefer": "return=headers-only"}, 501, "SANDBOX"),
            ({"Range": "9-3"}, 416, "PGRST103"),
        ],
    )
    def test_what_is_not_supported_says_so(self, http, example_stack, headers, status, code):
        answer = self.get(http, example_stack, "/rest/v1/rooms", **headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code)

    def test_a_page_behind_the_end_is_out_of_range(self, http, example_stack):
        answer = self.get(
            http, example_stack, "/rest/v1/rooms?offset=1000000", Prefer="count=exact"
        )
        assert answer.status_code == 416

    def test_put_and_patch_of_functions_are_refused(self, http, example_stack):
        headers = {"apikey": example_stack.secret_key}
        assert http.put("/rest/v1/rooms", headers=headers, json={}).status_code == 501
        assert http.patch("/rest/v1/rpc/echo", headers=headers, json={}).status_code == 405

    def test_bodies_that_are_no_json_are_refused(self, http, example_stack):
        headers = {"apikey": example_stack.secret_key}
        for body in (b"{", b"\xff", b"[1]", b'"x"'):
            answer = http.post("/rest/v1/rooms", headers=headers, content=body)
            assert answer.status_code == 400, answer.text

    def test_a_nul_is_refused(self, http, example_stack):
        answer = self.get(http, example_stack, "/rest/v1/rooms?phone=eq.%00")
        assert (answer.status_code, answer.json()["code"]) == (400, "22021")


class TestOrigin:
    def test_browsers_of_other_origins_are_let_in(self, http, example_stack):
        preflight = http.options("/rest/v1/rooms", headers={"Origin": "http://app.example"})
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == "*"
        answer = http.get("/rest/v1/rooms", headers={"apikey": example_stack.secret_key})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "Content-Range" in answer.headers["access-control-expose-headers"]

    def test_functions_and_unknown_paths_answer_in_json(self, http):
        assert "no Edge Functions" in http.post("/functions/v1/hello").json()["message"]
        answer = http.get("/graphql/v1")
        assert answer.status_code == 404
        assert "not part of the sandbox" in answer.json()["message"]

    def test_the_front_page_says_what_runs_here(self, http):
        assert "/rest/v1" in http.get("/").text


class TestFaults:
    def test_a_status_for_a_while(self, http, example_stack, faults):
        faults.answer(503, for_s=30)
        assert who(http, example_stack.secret_key).status_code == 503
        assert http.get("/auth/v1/health").status_code == 200
        faults.heal()
        assert who(http, example_stack.secret_key).status_code == 200
        assert faults.requests_spoiled >= 1

    def test_a_fault_ends_by_itself(self, http, example_stack, faults):
        faults.answer(429, for_s=0.2)
        assert who(http, example_stack.secret_key).status_code == 429
        eventually(lambda: who(http, example_stack.secret_key).status_code == 200)

    def test_no_answer_in_time(self, http, example_stack, faults):
        faults.hang(for_s=1)
        with pytest.raises(httpx.ReadTimeout):
            http.get("/rest/v1/rooms", headers={"apikey": example_stack.secret_key}, timeout=0.2)

    def test_an_answer_that_breaks_off(self, http, example_stack, faults):
        faults.cut(for_s=30)
        with pytest.raises(httpx.RemoteProtocolError):
            who(http, example_stack.secret_key)

    def test_realtime_off_refuses(self, http, example_stack, faults):
        faults.realtime_off()
        answer = http.get("/realtime/v1/websocket", params={"apikey": example_stack.anon_key})
        assert answer.status_code == 503
