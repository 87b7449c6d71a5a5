"""Users come in with a password, stay for a while, and are slowed when they guess."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from companion.cli import main
from companion.domain import LOCAL_OWNER
from companion.errors import Conflict, InvalidInput, NotFound, NotSignedIn, Refused, TooMany
from companion.people import passwords
from companion.people import people as module
from companion.people.people import IDLE_LOGIN, LONGEST_LOGIN, People
from companion.people.throttle import FORGET_S, FREE, LONGEST_S, Throttle
from companion.storage.store import Store

ADA, BOB = "correct horse", "battery staple"


DEAR = (
    "test_neither_passwords_nor_secrets_are_in_the_database",
    "test_an_unknown_name_costs_a_hash_like_a_known_one",
    "test_a_hash_with_other_costs_is_made_anew_at_the_next_login",
)
"""What they look at is the real hash."""


class Clock:
    """A time that passes when somebody says so."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds

    def now(self):
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / "companion.db")
    yield opened
    opened.close()


@pytest.fixture
def cheap(monkeypatch):
    """Hashes that cost nothing; what they should cost has tests of its own."""
    from argon2 import PasswordHasher

    hasher = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", lambda: hasher)
    passwords._nobodys.cache_clear()
    yield
    passwords._nobodys.cache_clear()


@pytest.fixture
def people(store, clock, monkeypatch, request):
    if request.node.name not in DEAR:
        request.getfixturevalue("cheap")
    # What is remembered for a second would outlive a day that passes at once.
    monkeypatch.setattr(module, "REMEMBERED_S", 0.0)
    found = People(store, "shared", throttle=Throttle(clock), now=clock.now)
    found.add("Ada", ADA)
    found.add("bob", BOB)
    return found


def test_the_first_user_is_an_admin_and_owns_what_was_made_without_logins(people):
    ada, bob = people.list()
    assert (ada.name, ada.owner, ada.admin) == ("ada", LOCAL_OWNER, True)
    assert (bob.name, bob.admin) == ("bob", False)
    assert bob.owner not in ("bob", LOCAL_OWNER)
    assert people.is_admin(ada.owner)
    assert not people.is_admin(bob.owner)
    with pytest.raises(Refused, match="admin"):
        people.require_admin(bob.owner)


def test_what_a_removed_first_admin_owned_is_not_for_whoever_is_added_next(people):
    people.remove("ada")
    carl = people.add("carl", ADA)
    assert not carl.admin
    assert carl.owner != LOCAL_OWNER
    for name in ("bob", "carl"):
        people.remove(name)
    assert people.add("dora", ADA).owner == LOCAL_OWNER


def test_a_second_admin_may_change_the_machine_and_owns_other_things(people):
    carol = people.add("carol", "another password", admin=True)
    assert carol.owner != LOCAL_OWNER
    assert people.is_admin(carol.owner)


@pytest.mark.parametrize("name", ["ADA", "ada", " ada ", "\uff41\uff44\uff41"])
def test_a_name_is_one_name_however_it_is_written(people, name):
    with pytest.raises(Conflict):
        people.add(name, "yet another one")
    assert people.by_login(people.sign_in(name, ADA, "10.0.0.1")).owner == LOCAL_OWNER


@pytest.mark.parametrize("name", ["", " ", "-x", "a b", "a/b", "a<b", "x" * 65, "a\nb", "\0"])
def test_a_name_that_could_be_mistaken_is_refused(people, name):
    with pytest.raises(InvalidInput):
        people.add(name, "long enough")


@pytest.mark.parametrize("password", ["", "short", "x" * 1001])
def test_a_password_has_a_length(people, password):
    with pytest.raises(InvalidInput):
        people.add("carol", password)
    with pytest.raises(InvalidInput):
        people.set_password("bob", password)


def test_neither_passwords_nor_secrets_are_in_the_database(people, store, tmp_path):
    secret, token = people.sign_in("bob", BOB, "10.0.0.1"), people.new_token("bob")
    store.checkpoint()
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for each in (ADA, BOB, secret, token):
        assert each.encode() not in written
    with sqlite3.connect(tmp_path / "companion.db") as connection:
        hashes = [row[0] for row in connection.execute("SELECT password FROM users")]
    assert all(each.startswith("$argon2id$v=19$m=65536,t=3,") for each in hashes)
    assert len(set(hashes)) == 2


def test_an_unknown_name_and_a_wrong_password_get_the_same_words(people):
    said = []
    for name in ("ada", "nobody", "", "x" * 1000, "\ud800"):
        with pytest.raises(NotSignedIn) as refusal:
            people.sign_in(name, "wrong", "10.0.0.1" + name[:1])
        said.append(refusal.value.message)
    assert len(set(said)) == 1


def test_an_unknown_name_costs_a_hash_like_a_known_one(people, monkeypatch):
    verified = []
    real = passwords._hasher()

    class Counting:
        def verify(self, stored, given):
            verified.append(stored[:40])
            return real.verify(stored, given)

        hash = staticmethod(real.hash)
        check_needs_rehash = staticmethod(real.check_needs_rehash)

    monkeypatch.setattr(passwords, "_hasher", lambda: Counting())
    for name in ("ada", "nobody"):
        with pytest.raises(NotSignedIn):
            people.sign_in(name, "wrong", name)
    assert len(verified) == 2
    assert verified[0][:30] == verified[1][:30], "the same costs"


def test_a_hash_with_other_costs_is_made_anew_at_the_next_login(people, store):
    from argon2 import PasswordHasher

    cheap = PasswordHasher(time_cost=1, memory_cost=64).hash(BOB)
    store.users.set_password("bob", cheap)
    earlier = people.sign_in("bob", BOB, "10.0.0.1")
    assert store.users.find("bob")[1] != cheap
    assert people.by_login(earlier)
    assert people.by_login(people.sign_in("bob", BOB, "10.0.0.1"))


def test_a_login_ends_with_sign_out_and_only_that_one(people):
    first, second = (people.sign_in("bob", BOB, "10.0.0.1") for _ in range(2))
    people.sign_out(first)
    assert people.by_login(first) is None
    assert people.by_login(second).name == "bob"
    people.sign_out("never seen")
    assert people.by_login("") is None


def test_a_login_that_is_not_used_ends_and_one_that_is_used_goes_on(people, clock):
    idle, used = (people.sign_in("bob", BOB, "10.0.0.1") for _ in range(2))
    for _ in range(3):
        clock.seconds += IDLE_LOGIN.total_seconds() / 2
        assert people.by_login(used)
    assert people.by_login(idle) is None


def test_no_login_lasts_longer_than_two_weeks(people, clock):
    secret = people.sign_in("bob", BOB, "10.0.0.1")
    for _ in range(int(LONGEST_LOGIN / (IDLE_LOGIN / 2))):
        assert people.by_login(secret)
        clock.seconds += IDLE_LOGIN.total_seconds() / 2
    clock.seconds += 1
    assert people.by_login(secret) is None


def test_another_password_ends_every_login(people):
    before = people.sign_in("bob", BOB, "10.0.0.1")
    people.set_password("bob", "a new password")
    assert people.by_login(before) is None
    with pytest.raises(NotSignedIn):
        people.sign_in("bob", BOB, "10.0.0.1")
    assert people.by_login(people.sign_in("bob", "a new password", "10.0.0.1"))


def test_a_removed_user_is_nobody(people):
    secret, token = people.sign_in("bob", BOB, "10.0.0.1"), people.new_token("bob")
    people.remove("bob")
    assert people.by_login(secret) is None
    assert people.by_token(token) is None
    again = people.add("bob", BOB)
    assert people.by_token(token) is None
    with pytest.raises(NotFound):
        people.remove("nobody")
    assert not again.admin


def test_tokens_are_for_programs_and_can_be_revoked(people):
    tokens = [people.new_token("bob") for _ in range(2)]
    assert people.by_token(tokens[0]).name == "bob"
    assert people.by_login(tokens[0]) is None
    assert people.tokens("bob") == 2
    assert people.revoke_tokens("bob") == 2
    assert [people.by_token(token) for token in tokens] == [None, None]
    with pytest.raises(NotFound):
        people.new_token("nobody")


# --- guessing -----------------------------------------------------------------------------


def tries(people, count, name="ada", address="10.0.0.1"):
    """How many of so many wrong passwords were looked at."""
    looked = 0
    for _ in range(count):
        try:
            people.sign_in(name, "wrong", address)
        except NotSignedIn:
            looked += 1
        except TooMany:
            continue
    return looked


def test_a_hundred_wrong_passwords_are_looked_at_five_times(people):
    assert tries(people, 100) == FREE
    with pytest.raises(TooMany, match="seconds"):
        people.sign_in("ada", ADA, "10.0.0.1")


def test_a_hundred_at_once_are_no_more(people):
    with ThreadPoolExecutor(20) as pool:
        looked = sum(pool.map(lambda _: tries(people, 1), range(100)))
    assert looked == FREE


def test_the_name_waits_wherever_one_comes_from_and_the_address_whatever_name_one_takes(people):
    assert tries(people, FREE) == FREE
    assert tries(people, 1, address="10.0.0.2") == 0
    assert tries(people, 1, name="bob") == 0
    assert tries(people, 1, name="bob", address="10.0.0.2") == 1


def test_an_unknown_name_waits_like_a_known_one(people):
    assert tries(people, 20, name="nobody", address="a") == tries(people, 20, name="ada", address="b") == FREE


def test_each_further_guess_waits_twice_as_long_up_to_a_quarter_of_an_hour(people, clock):
    tries(people, FREE)
    waits = []
    for _ in range(8):
        with pytest.raises(TooMany) as refusal:
            people.sign_in("ada", "wrong", "10.0.0.1")
        waits.append(refusal.value.wait_s)
        clock.seconds += refusal.value.wait_s
        assert tries(people, 1) == 1
    assert waits == [30, 60, 120, 240, 480, LONGEST_S, LONGEST_S, LONGEST_S]


def test_who_waited_and_knows_the_password_comes_in_and_the_name_starts_anew(people, clock):
    tries(people, FREE)
    clock.seconds += 31
    assert people.sign_in("ada", ADA, "10.0.0.1")
    assert tries(people, FREE, address="10.0.0.9") == FREE


def test_a_login_of_ones_own_does_not_buy_more_guesses(people):
    looked = 0
    for _ in range(20):
        looked += tries(people, 1, name="ada")
        try:
            people.sign_in("bob", BOB, "10.0.0.1")
        except TooMany:
            break
    assert looked == FREE


def test_what_was_long_ago_is_forgotten(people, clock):
    tries(people, FREE)
    clock.seconds += FORGET_S + 1
    assert tries(people, 20) == FREE


# --- the command --------------------------------------------------------------------------


@pytest.fixture
def user(tmp_path, capsys, monkeypatch):
    """Run `python -m companion user …` with this on standard input."""

    class Piped:
        def __init__(self, text):
            self.text = text

        def isatty(self):
            return False

        def readline(self):
            return self.text

    def run(*words, piped="a long password\n"):
        monkeypatch.setattr("sys.stdin", Piped(piped))
        code = main(["user", *words, "--data-dir", str(tmp_path / "data")])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_users_are_managed_on_the_command_line(user, tmp_path):
    assert user("add", "Ada") == (0, "ada is an admin and owns what was made without logins.\n", "")
    assert user("add", "bob")[1] == "bob is a user.\n"
    assert user("add", "carol", "--admin")[1] == "carol is an admin.\n"
    token = user("token", "bob")[1].strip()
    assert len(token) == 43
    listed = user("list")[1].splitlines()
    assert [line.split()[:2] for line in listed] == [["ada", "admin"], ["bob", "user"], ["carol", "admin"]]
    assert listed[1].endswith("tokens: 1")
    assert user("token", "bob", "--revoke")[1] == "1 tokens of bob are revoked.\n"
    assert user("password", "bob", piped="another password\n")[0] == 0
    assert user("remove", "bob")[1] == "bob is removed; documents and conversations go, too.\n"
    assert len(user("list")[1].splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "piped", "said"),
    [
        (("add",), "x", "user add NAME"),
        (("add", "ada"), "short\n", "8 to 1000"),
        (("add", "a b"), "long enough\n", "A name has"),
        (("password", "nobody"), "long enough\n", "no user called"),
        (("remove", "nobody"), "", "no user called"),
        (("token", "nobody"), "", "no user called"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(user, words, piped, said):
    code, _, error = user(*words, piped=piped)
    assert code == 2
    assert said in error
    assert "Traceback" not in error


def test_a_password_is_never_an_argument(user, capsys):
    with pytest.raises(SystemExit):
        user("add", "ada", "my password")
