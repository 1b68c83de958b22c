"""Adapters to the Hub and back, through the HTTP of a Hub of one's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.hub_for_tests import FakeHub, HubRepository, redirected, running_hub
from support.tasks_for_tests import write_task

import e2vpt
from e2vpt.errors import AdapterFormatError, ConfigError, HubError, RunError
from e2vpt.runs.cards.card import is_generated
from e2vpt.runs.cards.sharing import public_files, pull_adapter, push_run
from e2vpt.serving.start import named_adapter


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch, with weights of a file."""
    home = tmp_path_factory.mktemp("home")
    write_task(home / "shapes")
    weights = shutil.copy(e2vpt.backbones.demo.DEMO_WEIGHTS, home / "my-weights.safetensors")
    settings = {"epochs": 1, "num_visual": 2, "prune": False, "verbose": False, "weights": weights}
    e2vpt.train(home / "shapes", "demo", home / "run", **settings)
    return home / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(scope="module")
def server() -> Iterator[FakeHub]:
    with running_hub() as hub:
        yield hub


Asked = Callable[[str | None], FakeHub]


@pytest.fixture
def as_user(server: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """An empty Hub, asked with a token, or with none; the cache is empty too."""
    server.repositories.clear()

    def ask(token: str | None) -> FakeHub:
        cache = tmp_path / f"cache-{token}"
        redirected(monkeypatch, server.url, cache, token)
        return server

    ask("write")
    return ask


def pushed_files(hub: FakeHub, name: str = "me/shapes") -> dict[str, bytes]:
    return hub.repositories[name].files("main") or {}


def test_there_and_back(as_user: Asked, trained: Path, run: Path, tmp_path: Path) -> None:
    hub = as_user("write")
    pushed = push_run(run, "me/shapes")
    assert pushed.private and hub.repositories["me/shapes"].private and not pushed.kept_card
    assert pushed.url == f"{hub.url}/me/shapes"
    assert pushed.files == {name: len(content) for name, content in pushed_files(hub).items()}
    path = pull_adapter("me/shapes", tmp_path / "pulled")
    assert path == tmp_path / "pulled/adapter.safetensors"
    for name in ("adapter.safetensors", "README.md"):
        assert (tmp_path / "pulled" / name).read_bytes() == (run / name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "pulled").iterdir()) == ["README.md", "adapter.safetensors"]
    images = trained.parent / "shapes/test"
    assert e2vpt.load(path).predict(images) == e2vpt.load(run).predict(images)
    (tmp_path / "pulled/README.md").unlink()
    assert pull_adapter("me/shapes", tmp_path / "pulled") == path, "once more makes up for what is missing"
    assert (tmp_path / "pulled/README.md").read_bytes() == (run / "README.md").read_bytes()


def test_nothing_private_leaves_the_machine(as_user: Asked, run: Path, trained: Path) -> None:
    hub = as_user("write")
    push_run(run, "me/shapes")
    files = pushed_files(hub)
    assert set(files) == {"adapter.safetensors", "README.md", "config.json"}
    saved = json.loads((run / "config.json").read_text())
    assert str(trained.parent) in saved["source"] and "my-weights" in saved["weights"]
    assert json.loads(files["config.json"]) == saved | {"source": None, "weights": None}
    for name, content in files.items():
        for secret in (str(trained.parent), str(Path.home()), "my-weights", ".png"):
            assert secret.encode() not in content, (name, secret)


def test_settings_that_this_version_does_not_know_stay_here(run: Path) -> None:
    path = run / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"note": "/home/me"}))
    assert "note" not in json.loads(public_files(run / "adapter.safetensors")["config.json"])


def test_an_adapter_alone_gets_a_card(as_user: Asked, run: Path, tmp_path: Path) -> None:
    alone = shutil.copy(run / "adapter.safetensors", tmp_path / "pets.safetensors")
    hub = as_user("write")
    push_run(alone, "me/pets", public=True)
    files = pushed_files(hub, "me/pets")
    assert set(files) == {"adapter.safetensors", "README.md"} and not hub.repositories["me/pets"].private
    assert b"# pets\n" in files["README.md"]


def test_revisions(as_user: Asked, run: Path, tmp_path: Path) -> None:
    hub = as_user("write")
    push_run(run, "me/shapes")
    first = hub.repositories["me/shapes"].head
    model = e2vpt.load(run)
    e2vpt.save_adapter(model.model, run / "adapter.safetensors", classes=("a", "b", "c"))
    push_run(run, "me/shapes")
    new, old = (
        pull_adapter("me/shapes", tmp_path / "new"),
        pull_adapter("me/shapes", tmp_path / "old", revision=first),
    )
    assert e2vpt.read_adapter(new).classes == ("a", "b", "c")
    assert e2vpt.read_adapter(old).classes == model.info.classes
    with pytest.raises(HubError, match=r"has no revision 'v9'. Give a branch, a tag or a commit"):
        pull_adapter("me/shapes", tmp_path / "other", revision="v9")
    assert e2vpt.load(f"hf-hub:me/shapes@{first}").info.classes == model.info.classes
    assert named_adapter("hf-hub:me/shapes")[0] == named_adapter(f"hf-hub:me/shapes@{first}")[0] == "shapes"
    assert named_adapter("other=hf-hub:me/shapes")[0] == "other"


def test_a_card_edited_on_the_hub_is_kept(as_user: Asked, run: Path) -> None:
    hub = as_user("write")
    push_run(run, "me/shapes")
    edited = pushed_files(hub)["README.md"].replace(b"# license: choose", b"license: mit # choose")
    hub.repositories["me/shapes"].commit({"README.md": edited})
    pushed = push_run(run, "me/shapes")
    assert pushed.kept_card and "README.md" not in pushed.files
    assert pushed_files(hub)["README.md"] == edited
    own = (run / "README.md").read_text() + "mine\n"
    (run / "README.md").write_text(own)
    assert not push_run(run, "me/shapes").kept_card
    assert pushed_files(hub)["README.md"] == own.encode()


def test_metadata_that_cannot_be_read(as_user: Asked, run: Path) -> None:
    for text in (b"---\nlicense: [mit\n---\n", b"---\n- a\n---\n", b"\xff"):
        (run / "README.md").write_bytes(text)
        with pytest.raises(ConfigError, match=r"The metadata of \S+README\.md cannot be read"):
            push_run(run, "me/shapes")
    assert not as_user("write").repositories


def test_visibility_is_never_changed_in_passing(as_user: Asked, run: Path) -> None:
    hub = as_user("write")
    hub.repositories |= {"me/open": HubRepository(private=False), "me/closed": HubRepository(private=True)}
    with pytest.raises(HubError, match=r"me/open exists and is public. Give --public"):
        push_run(run, "me/open")
    with pytest.raises(HubError, match=r"me/closed exists and is private. Leave --public out"):
        push_run(run, "me/closed", public=True)
    assert not pushed_files(hub, "me/open") and not pushed_files(hub, "me/closed")
    push_run(run, "me/open", public=True)
    push_run(run, "me/closed")
    assert pushed_files(hub, "me/open") and pushed_files(hub, "me/closed")


def test_a_repository_of_something_else(as_user: Asked, run: Path, tmp_path: Path) -> None:
    hub = as_user("write")
    hub.repositories["me/llm"] = HubRepository(private=True)
    hub.repositories["me/llm"].commit({"README.md": b"mine", "model.safetensors": b"1"})
    with pytest.raises(HubError, match=r"me/llm holds something else \(model.safetensors\). Choose another"):
        push_run(run, "me/llm")
    with pytest.raises(HubError, match=r"it has no such file .*Was it made by `e2vpt push`\?"):
        pull_adapter("me/llm", tmp_path / "llm")
    hub.repositories["me/llm"].commit({"adapter.safetensors": b"no adapter"})
    with pytest.raises(AdapterFormatError, match="me/llm holds no adapter that can be used"):
        pull_adapter("me/llm", tmp_path / "llm")
    assert not (tmp_path / "llm").exists()


def test_a_repository_without_a_card(as_user: Asked, run: Path, tmp_path: Path) -> None:
    hub = as_user("write")
    hub.repositories["me/bare"] = HubRepository(private=False)
    hub.repositories["me/bare"].commit({"adapter.safetensors": (run / "adapter.safetensors").read_bytes()})
    pull_adapter("me/bare", tmp_path / "bare")
    assert [path.name for path in (tmp_path / "bare").iterdir()] == ["adapter.safetensors"]


def test_what_is_there_already_stays(as_user: Asked, run: Path, tmp_path: Path) -> None:
    push_run(run, "me/shapes")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/README.md").write_text("mine")
    with pytest.raises(RunError, match=r"full holds something else already \(README.md\)"):
        pull_adapter("me/shapes", tmp_path / "full")
    assert (tmp_path / "full/README.md").read_text() == "mine"
    e2vpt.save_adapter(e2vpt.load(run).model, run / "adapter.safetensors", classes=("a", "b", "c"))
    with pytest.raises(RunError, match="run holds something else already"):
        pull_adapter("me/shapes", run)


def test_who_may(as_user: Asked, run: Path, tmp_path: Path) -> None:
    as_user("write")
    push_run(run, "me/shapes")
    as_user(None)
    with pytest.raises(HubError, match=r"There is no token for the Hub. Log in with `hf auth login`"):
        push_run(run, "me/shapes")
    with pytest.raises(HubError, match="no such repository, or it is private and you may not see it"):
        pull_adapter("me/shapes", tmp_path / "pulled")
    as_user("read")
    with pytest.raises(HubError, match=r"your token may not do that .*a token that may write"):
        push_run(run, "me/shapes")
    assert pull_adapter("me/shapes", tmp_path / "pulled").is_file()
    with pytest.raises(HubError, match="no such repository"):
        pull_adapter("me/nothing", tmp_path / "other")
    as_user("stolen")
    with pytest.raises(HubError, match="your token is not valid"):
        push_run(run, "me/shapes")
    with pytest.raises(HubError, match="your token is not valid"):
        pull_adapter("me/shapes", tmp_path / "other")


def test_no_connection(as_user: Asked, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push_run(run, "me/shapes")
    pull_adapter("me/shapes", tmp_path / "before")
    redirected(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache-write", "write")
    with pytest.raises(HubError, match=r"127.0.0.1:9 cannot be reached"):
        push_run(run, "me/shapes")
    assert pull_adapter("me/shapes", tmp_path / "again").is_file(), "from the cache"
    with pytest.raises(HubError, match=r"no connection, and it is not in the cache. \S+ cannot be reached"):
        pull_adapter("me/others", tmp_path / "others")


@pytest.mark.parametrize("name", ["shapes", "me/a/b", "", "me/", "../x", "me/sh apes", "hf-hub:me/shapes"])
def test_names(as_user: Asked, run: Path, tmp_path: Path, name: str) -> None:
    for call in (lambda: push_run(run, name), lambda: pull_adapter(name, tmp_path / "pulled")):
        with pytest.raises((ConfigError, HubError), match=r"(Expected OWNER/NAME|Repo id must)"):
            call()


def test_no_run(as_user: Asked, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        push_run(tmp_path / "nothing", "me/shapes")
    (tmp_path / "bad.safetensors").write_bytes(b"no adapter")
    with pytest.raises(AdapterFormatError):
        push_run(tmp_path / "bad.safetensors", "me/shapes")
    assert not as_user("write").repositories


def test_a_pulled_card_is_still_nobodys_edit(as_user: Asked, run: Path, tmp_path: Path) -> None:
    hub = as_user("write")
    push_run(run, "me/shapes")
    pull_adapter("me/shapes", tmp_path / "pulled")
    push_run(tmp_path / "pulled", "me/copy")
    files = pushed_files(hub, "me/copy")
    assert set(files) == {"adapter.safetensors", "README.md"} and is_generated(files["README.md"].decode())
