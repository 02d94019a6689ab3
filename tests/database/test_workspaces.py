"""Who may do what to workspaces and their members."""

from __future__ import annotations

import uuid

import pytest
from psycopg import errors

from tests.database.project import Caller, Team, World

ADD_MEMBER = "insert into workspace_members (workspace_id, user_id, role) values (%s, %s, %s)"
SET_ROLE = "update workspace_members set role = %s where workspace_id = %s and user_id = %s"
REMOVE = "delete from workspace_members where workspace_id = %s and user_id = %s"


def test_whoever_creates_a_workspace_owns_it(world: World) -> None:
    user = world.add_user()
    workspace = user.value("select id from whatsapp_create_workspace('  Loja  ')")
    assert user.row("select nome from workspaces") == {"nome": "Loja"}
    assert user.rows("select workspace_id, user_id, role from workspace_members") == [
        {"workspace_id": workspace, "user_id": user.user, "role": "owner"}
    ]


@pytest.mark.parametrize("name", ["", "   ", "x" * 201, None])
def test_a_workspace_needs_a_name(world: World, name: str | None) -> None:
    with pytest.raises(errors.InvalidParameterValue, match="1 to 200 characters"):
        world.add_user().run("select whatsapp_create_workspace(%s)", name)


def test_spaces_around_a_name_count_when_it_is_stored(team: Team) -> None:
    for name in ("x" + " " * 200, " " * 200 + "x"):
        with pytest.raises(errors.CheckViolation):
            team.owner.run("update workspaces set nome = %s", name)


def test_nobody_inserts_a_workspace_directly(world: World) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        world.add_user().run("insert into workspaces (nome) values ('x')")


def test_an_admin_adds_agents_and_viewers_but_no_admin(world: World, team: Team) -> None:
    team.admin.run(ADD_MEMBER, team.workspace, world.add_user().user, "agent")
    team.admin.run(ADD_MEMBER, team.workspace, world.add_user().user, "viewer")
    for role in ("admin", "owner"):
        with pytest.raises(errors.InsufficientPrivilege):
            team.admin.run(ADD_MEMBER, team.workspace, world.add_user().user, role)


def test_an_admin_changes_only_roles_below_its_own_and_not_upwards(team: Team) -> None:
    assert team.admin.changed(SET_ROLE, "viewer", team.workspace, team.agent.user) == 1
    assert team.admin.changed(SET_ROLE, "agent", team.workspace, team.owner.user) == 0
    assert team.admin.changed(SET_ROLE, "owner", team.workspace, team.admin.user) == 0
    with pytest.raises(errors.InsufficientPrivilege):
        team.admin.run(SET_ROLE, "admin", team.workspace, team.viewer.user)


def test_agents_manage_nobody(world: World, team: Team) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        team.agent.run(ADD_MEMBER, team.workspace, world.add_user().user, "viewer")
    assert team.agent.changed(SET_ROLE, "owner", team.workspace, team.agent.user) == 0
    assert team.agent.changed(REMOVE, team.workspace, team.viewer.user) == 0


def test_a_member_may_leave(team: Team) -> None:
    assert team.viewer.changed(REMOVE, team.workspace, team.viewer.user) == 1
    assert team.viewer.rows("select * from workspaces") == []


def test_a_member_cannot_be_moved_to_another_workspace(world: World, team: Team) -> None:
    other = world.add_team()
    with pytest.raises(errors.InsufficientPrivilege):
        team.owner.run("update workspace_members set workspace_id = %s", other.workspace)


def test_the_last_owner_stays(team: Team) -> None:
    with pytest.raises(errors.CheckViolation, match="at least one owner"):
        team.owner.run(SET_ROLE, "admin", team.workspace, team.owner.user)
    with pytest.raises(errors.CheckViolation, match="at least one owner"):
        team.owner.run(REMOVE, team.workspace, team.owner.user)
    team.owner.run(SET_ROLE, "owner", team.workspace, team.admin.user)
    assert team.owner.changed(REMOVE, team.workspace, team.owner.user) == 1


def test_two_owners_cannot_both_leave_at_once(world: World, team: Team) -> None:
    team.owner.run(SET_ROLE, "owner", team.workspace, team.admin.user)
    with world.project.connect_api() as second:
        admin = team.admin.on(second)
        with world.api.transaction():
            assert team.owner.changed(REMOVE, team.workspace, team.owner.user) == 1
            second.execute("set lock_timeout = '100ms'")
            with pytest.raises(errors.LockNotAvailable):
                admin.run(REMOVE, team.workspace, team.admin.user)
        with pytest.raises(errors.CheckViolation):
            admin.run(REMOVE, team.workspace, team.admin.user)


def test_the_last_owner_goes_with_its_user_or_workspace(world: World, team: Team) -> None:
    world.owner.execute("delete from auth.users where id = %s", [team.owner.user])
    assert len(world.all("select * from workspace_members")) == 3
    other = world.add_team()
    assert other.owner.changed("delete from workspaces where id = %s", other.workspace) == 1
    assert world.all("select * from workspaces where id = %s", other.workspace) == []


def test_deleting_a_workspace_takes_everything_of_it_along(world: World, team: Team) -> None:
    account = team.add_account()
    team.send(account, "+55 11 98765-4321")
    assert team.owner.changed("delete from workspaces where id = %s", team.workspace) == 1
    for table in ("integration_accounts", "commands", "leads", "conversations", "messages"):
        assert world.all(f"select * from {table}") == []


def test_only_owners_delete_a_workspace(team: Team) -> None:
    for caller in (team.admin, team.agent, team.viewer):
        assert caller.changed("delete from workspaces") == 0


def test_an_unknown_role_opens_nothing(team: Team) -> None:
    assert team.owner.rows("select whatsapp_workspaces_of_caller('root')") == []
    assert team.owner.rows("select whatsapp_workspaces_of_caller(null)") == []


def test_a_project_with_its_own_tenancy_replaces_one_function(world: World, team: Team) -> None:
    account = team.add_account()
    stranger = world.add_user()
    assert stranger.rows("select * from integration_accounts") == []
    with world.owner.transaction(force_rollback=True):
        world.owner.execute(f"""
            create or replace function public.whatsapp_workspaces_of_caller(min_role text)
            returns setof uuid language sql stable security definer set search_path = ''
            as $$ select '{team.workspace}'::uuid where auth.uid() = '{stranger.user}' $$
        """)
        there = Caller(world.owner, "authenticated", stranger.user)
        assert there.value("select id from integration_accounts") == account
        team_there = Caller(world.owner, "authenticated", team.owner.user)
        assert team_there.rows("select * from integration_accounts") == []


def test_conversations_are_given_to_members_only_and_left_with_the_workspace(
    world: World, team: Team
) -> None:
    team.send(team.add_account(), "+5511987654321")
    give = "update conversations set assigned_to = %s"
    stranger = world.add_team().agent
    for nobody in (stranger.user, uuid.uuid4()):
        with pytest.raises(errors.InvalidParameterValue, match="must be a member"):
            team.agent.run(give, nobody)
    assert team.agent.changed(give, team.viewer.user) == 1
    team.admin.run("delete from workspace_members where user_id = %s", team.viewer.user)
    assert world.one("select assigned_to from conversations") == {"assigned_to": None}
    assert team.agent.changed(give, team.agent.user) == 1
    assert team.agent.changed(give, None) == 1
