"""The session's stack stands, whatever migrations the repository has."""

from bridge.sandbox.stack import StackInfo
from tests.fixtures.stack import new_user, service_client


def test_the_stack_answers_as_the_service_role(stack: StackInfo):
    user_id, _, _ = new_user(stack)
    with service_client(stack) as service:
        assert service.get(f"/auth/v1/admin/users/{user_id}").json()["id"] == user_id
