"""The system of record: what it accepts, fills in, refuses and keeps."""

import threading
from typing import Any

import httpx
import psycopg
import pytest

from mlops.api import Api, ApiError, ConflictError, NotFoundError
from mlops.identity import issue_system_token
from tests.conftest import ApiServer, serving
from tests.integration.conftest import dataset_item, run_item
from tests.integration.plain import SQUARE

RUNS, MODELS, DATA = "alps-training-runs", "alps-models", "alps-training-data"


def events(database_url: str) -> list[tuple[str, str]]:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT detail_type, item FROM mlops.outbox ORDER BY seq")
        return [(str(kind), str(item)) for kind, item in rows.fetchall()]


def tensor(*dimensions: str) -> dict[str, Any]:
    return {"shape": [-1] * len(dimensions), "dim_order": dimensions, "data_type": "float32"}


def model_item(run: str) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "geometry": SQUARE,
        "properties": {
            "datetime": "2017-01-01T00:00:00Z",
            "mlops:model": "landcover",
            "mlm:name": "landcover",
            "mlm:architecture": "TempCNN",
            "mlm:input": [{"name": "series", "input": tensor("batch", "time")}],
            "mlm:output": [
                {
                    "name": "probabilities",
                    "tasks": ["classification"],
                    "result": tensor("batch", "class"),
                }
            ],
            "mlops:onnx": {"opset": 20, "parity": {"max_abs_error": 0.0}},
        },
        "links": [{"rel": "training-run", "href": f"../../{RUNS}/items/{run}"}],
        "assets": {"model": {"href": "../../../assets/alps/models/landcover/x/model.onnx"}},
    }


class TestWorkspace:
    def test_has_a_collection_for_every_kind(self, workspace: Api) -> None:
        answer = workspace.get_json("/workspaces/alps")
        assert answer["collections"]["training-run"] == RUNS
        for collection in answer["collections"].values():
            assert workspace.get_json(f"/collections/{collection}")["mlops:workspace"] == "alps"
        assert [w["id"] for w in workspace.get_json("/workspaces")["workspaces"]] == ["alps"]

    def test_is_made_once(self, workspace: Api) -> None:
        with pytest.raises(ConflictError, match="exists already"):
            workspace.request("POST", "/workspaces", json={"id": "alps"})

    @pytest.mark.parametrize("identity", ["Alps", "a b", "", "-a", "a" * 64, None, 3])
    def test_id_is_a_slug(self, workspace: Api, identity: object) -> None:
        with pytest.raises(ApiError, match="workspace id") as caught:
            workspace.request("POST", "/workspaces", json={"id": identity})
        assert caught.value.status == 422


class TestRun:
    def test_is_filled_in(self, workspace: Api) -> None:
        run, created = workspace.create_item(RUNS, run_item())
        properties = run["properties"]
        assert created
        assert run["id"].startswith("landcover-")
        assert properties["mlops:status"] == "accepted"
        assert properties["mlops:attempt"] == 1
        assert run["geometry"]["coordinates"] == SQUARE["coordinates"]
        assert run["bbox"] == [15.0, 46.0, 15.1, 46.1]
        links = {link["rel"]: link["href"] for link in run["links"]}
        assert links["training-data"] == f"{workspace.url}/collections/{DATA}/items/fields-v1"
        assert links["workspace"] == f"{workspace.url}/workspaces/alps"
        assert workspace.get_item(RUNS, run["id"]).item == run

    @pytest.mark.parametrize(
        ("properties", "pointer"),
        [
            ({"mlops:model": "no spaces"}, "/properties/mlops:model"),
            ({"mlops:task": "guessing"}, "/properties/mlops:task"),
            ({"mlops:recipe": "no-such-recipe"}, "/properties/mlops:recipe"),
            ({"mlops:framework": "jax"}, "/properties/mlops:framework"),
            (
                {"mlops:hyperparameters": {"epochs": 0}},
                "/properties/mlops:hyperparameters/epochs",
            ),
            (
                {"mlops:hyperparameters": {"layers": 3}},
                "/properties/mlops:hyperparameters/layers",
            ),
            ({"mlops:compute": {"engine": "sagemaker"}}, "/properties/mlops:compute/engine"),
            ({"mlops:metrics": {"val_f1": 1.0}}, "/properties/mlops:metrics"),
            ({"mlops:status": "successful"}, "/properties/mlops:status"),
            ({"datetime": "yesterday"}, "/properties/datetime"),
        ],
    )
    def test_that_asks_for_nonsense_is_refused(
        self, workspace: Api, properties: dict[str, Any], pointer: str
    ) -> None:
        with pytest.raises(ApiError) as caught:
            workspace.create_item(RUNS, run_item(**properties))
        assert caught.value.status == 422
        assert pointer in [fault["pointer"] for fault in caught.value.problem["errors"]]
        assert workspace.get_json(f"/collections/{RUNS}/items")["features"] == []

    @pytest.mark.parametrize(
        "href", ["../../alps-training-data/items/none-v9", "https://elsewhere.example/x"]
    )
    def test_needs_training_data_that_exists(self, workspace: Api, href: str) -> None:
        run = run_item()
        run["links"][0]["href"] = href
        with pytest.raises(ApiError, match="no dataset version") as caught:
            workspace.create_item(RUNS, run)
        assert caught.value.status == 422

    @pytest.mark.parametrize("rel", ["model", "workspace"])
    def test_does_not_say_itself_what_came_of_it(self, http: httpx.Client, rel: str) -> None:
        run = run_item()
        run["links"].append({"rel": rel, "href": "https://forged.example/"})
        for body, place in (
            (run, ""),
            ({"type": "FeatureCollection", "features": [run]}, "/features/0"),
        ):
            answer = http.post(f"/collections/{RUNS}/items", json=body)
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["pointer"] == f"{place}/links/1/rel"

    def test_names_its_extensions_whatever_its_client_says(self, workspace: Api) -> None:
        run, _ = workspace.create_item(RUNS, run_item())
        own = "https://x.example/v1.0.0/schema.json"
        workspace.merge_patch(RUNS, run["id"], {"stac_extensions": [own]})
        named = workspace.get_item(RUNS, run["id"]).item["stac_extensions"]
        assert named == [own, *run["stac_extensions"]]

    def test_request_is_immutable(self, workspace: Api) -> None:
        run, _ = workspace.create_item(RUNS, run_item())
        for change in (
            {"properties": {"mlops:hyperparameters": {"epochs": 3}}},
            {"properties": {"mlops:recipe": None}},
            {"links": []},
        ):
            with pytest.raises(ConflictError, match="immutable"):
                workspace.merge_patch(RUNS, run["id"], change)

    def test_a_number_is_not_a_truth(self, workspace: Api) -> None:
        run, _ = workspace.create_item(RUNS, run_item(**{"mlops:hyperparameters": {"epochs": 1}}))
        asked = "mlops:hyperparameters"
        with pytest.raises(ConflictError, match="immutable"):
            workspace.merge_patch(RUNS, run["id"], {"properties": {asked: {"epochs": True}}})
        # A client in JavaScript cannot say which of the two it read.
        same = {"properties": {asked: {"epochs": 1.0}, "title": "described"}}
        assert workspace.merge_patch(RUNS, run["id"], same)["properties"]["title"] == "described"

    def test_measures_are_the_systems(self, api_server: ApiServer, workspace: Api) -> None:
        run, _ = workspace.create_item(RUNS, run_item())
        change = {"properties": {"mlops:metrics": {"val_f1": 0.5}, "mlops:attempt": 1}}
        with pytest.raises(ConflictError, match="title, description"):
            workspace.merge_patch(RUNS, run["id"], change)
        job = api_server.job(RUNS, run["id"])
        assert (
            job.merge_patch(RUNS, run["id"], change)["properties"]["mlops:metrics"]["val_f1"] == 0.5
        )
        other, _ = workspace.create_item(RUNS, run_item())
        with pytest.raises(ApiError) as caught:
            job.merge_patch(RUNS, other["id"], change)
        assert caught.value.status == 403

    @pytest.mark.parametrize(
        "change",
        [
            {"properties": {"mlops:requested_by": "somebody else"}},
            {"properties": {"datetime": "2020-01-01T00:00:00Z"}},
            {"properties": {"created": "2020-01-01T00:00:00Z"}},
            {"geometry": {"type": "Point", "coordinates": [0, 0]}},
            {"links": []},
        ],
    )
    def test_a_job_measures_and_no_more(
        self, api_server: ApiServer, workspace: Api, change: dict[str, Any]
    ) -> None:
        run, _ = workspace.create_item(RUNS, run_item())
        if "links" in change:
            led_to = {"rel": "model", "href": "https://elsewhere.example/model"}
            change = {"links": [*run["links"], led_to]}
        job = api_server.job(RUNS, run["id"])
        for measures in ({}, {"mlops:progress": 0.5}):
            patch = {**change, "properties": change.get("properties", {}) | measures}
            with pytest.raises(ConflictError):
                job.merge_patch(RUNS, run["id"], patch)
        assert workspace.get_item(RUNS, run["id"]).item == run

    @pytest.mark.parametrize("name", ["mlops:started", "mlops:finished"])
    @pytest.mark.parametrize("time", ["garbage", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00", ""])
    def test_a_job_says_when(
        self, api_server: ApiServer, workspace: Api, name: str, time: str
    ) -> None:
        run, _ = workspace.create_item(RUNS, run_item())
        job = api_server.job(RUNS, run["id"])
        with pytest.raises(ApiError) as caught:
            job.merge_patch(RUNS, run["id"], {"properties": {name: time}})
        assert caught.value.status == 422
        assert [f["pointer"] for f in caught.value.problem["errors"]] == [f"/properties/{name}"]
        when = {"properties": {name: "2026-01-01T00:00:00.5+02:00"}}
        assert job.merge_patch(RUNS, run["id"], when)["properties"][name][-6:] == "+02:00"

    def test_a_job_deletes_nothing(self, api_server: ApiServer, workspace: Api) -> None:
        run, _ = workspace.create_item(RUNS, run_item())
        for status in ("running", "failed"):
            ended = {"properties": {"mlops:status": status}}
            api_server.system().merge_patch(RUNS, run["id"], ended)
            with pytest.raises(ApiError) as caught:
                api_server.job(RUNS, run["id"]).delete_item(RUNS, run["id"])
            assert caught.value.status == 403
        kept = workspace.get_item(RUNS, run["id"]).item
        assert kept["properties"]["mlops:status"] == "failed"

    def test_terminal_status_is_final(self, api_server: ApiServer, workspace: Api) -> None:
        run, _ = workspace.create_item(RUNS, run_item())
        system = api_server.system()
        system.merge_patch(RUNS, run["id"], {"properties": {"mlops:status": "failed"}})
        for status in ("running", "successful", "accepted", "dismissed"):
            with pytest.raises(ConflictError, match="final"):
                system.merge_patch(RUNS, run["id"], {"properties": {"mlops:status": status}})

    def test_is_dismissed_by_patch_or_delete(self, workspace: Api) -> None:
        run, _ = workspace.create_item(RUNS, run_item())
        dismissed = workspace.merge_patch(
            RUNS, run["id"], {"properties": {"mlops:status": "dismissed"}}
        )
        assert dismissed["properties"]["mlops:status"] == "dismissed"
        other, _ = workspace.create_item(RUNS, run_item())
        workspace.delete_item(RUNS, other["id"])
        kept = workspace.get_item(RUNS, other["id"]).item
        assert kept["properties"]["mlops:status"] == "dismissed"
        workspace.delete_item(RUNS, other["id"])
        with pytest.raises(NotFoundError):
            workspace.get_item(RUNS, other["id"])

    def test_id_is_given_once(
        self, api_server: ApiServer, workspace: Api, http: httpx.Client, database_url: str
    ) -> None:
        """Job, token and model of a run that was deleted are no other run's."""
        workspace.create_item(RUNS, {**run_item(), "id": "mine"})
        api_server.system().create_item(MODELS, model_item("mine"))
        workspace.delete_item(RUNS, "mine")
        told = events(database_url)
        with pytest.raises(ConflictError, match="id is not given again"):
            workspace.create_item(RUNS, {**run_item(), "id": "mine"})
        url = f"/collections/{RUNS}/bulk_items"
        for method in ("insert", "upsert"):
            body = {"items": {"other": run_item(), "mine": run_item()}, "method": method}
            answer = http.post(url, json=body)
            assert (answer.status_code, "not given again" in answer.text) == (409, True)
        assert http.get(f"/collections/{RUNS}/items").json()["features"] == []
        assert events(database_url) == told

    def test_older_attempt_is_refused(self, api_server: ApiServer, workspace: Api) -> None:
        run, _ = workspace.create_item(RUNS, run_item())
        api_server.system().merge_patch(RUNS, run["id"], {"properties": {"mlops:attempt": 2}})
        old_job = api_server.job(RUNS, run["id"], attempt=1)
        with pytest.raises(ConflictError, match="attempt 2"):
            old_job.merge_patch(RUNS, run["id"], {"properties": {"mlops:progress": 0.5}})
        with pytest.raises(ConflictError, match="attempt 2"):
            old_job.send_metrics(RUNS, run["id"], batch="x", attempt=1, points=[])

    def test_forged_token_is_refused(self, workspace: Api) -> None:
        run, _ = workspace.create_item(RUNS, run_item())
        with Api(workspace.url, "forged", patience=0) as forger, pytest.raises(ApiError) as caught:
            forger.merge_patch(RUNS, run["id"], {"properties": {"title": "x"}})
        assert caught.value.status == 401


class TestConcurrency:
    def test_no_write_is_lost(self, workspace: Api) -> None:
        """Two clients patch different properties of one item, 200 times each."""
        run, _ = workspace.create_item(RUNS, run_item())
        failures: list[Exception] = []

        def patch(client: str) -> None:
            with Api(workspace.url, patience=0) as api:
                for n in range(200):
                    try:
                        change = {"properties": {f"note:{client}-{n}": n}}
                        api.merge_patch(RUNS, run["id"], change)
                    except ApiError as error:
                        failures.append(error)

        threads = [threading.Thread(target=patch, args=(client,)) for client in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        properties = workspace.get_item(RUNS, run["id"]).item["properties"]
        assert failures == []
        assert sum(name.startswith("note:") for name in properties) == 400

    def test_versions_neither_clash_nor_leave_gaps(
        self, api_server: ApiServer, workspace: Api
    ) -> None:
        runs = [workspace.create_item(RUNS, run_item())[0]["id"] for _ in range(8)]
        barrier = threading.Barrier(len(runs) * 2)

        def register(run: str) -> None:
            with api_server.system() as system:
                barrier.wait()
                system.create_item(MODELS, model_item(run))

        # Each twice: a run makes one model however often its end is told.
        threads = [threading.Thread(target=register, args=(run,)) for run in runs * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        models = workspace.get_json(f"/collections/{MODELS}/items", params={"limit": 100})
        assert sorted(int(m["properties"]["version"]) for m in models["features"]) == list(
            range(1, 9)
        )


class TestConditions:
    def test_etag_guards_reads_and_writes(self, workspace: Api) -> None:
        run, _ = workspace.create_item(RUNS, run_item())
        url = f"{workspace.url}/collections/{RUNS}/items/{run['id']}"
        etag = httpx.get(url).headers["ETag"]
        assert httpx.get(url, headers={"If-None-Match": etag}).status_code == 304
        changed = httpx.patch(
            url, json={"properties": {"title": "new"}}, headers={"If-Match": etag}
        )
        assert changed.status_code == 204
        assert changed.headers["ETag"] != etag
        stale = httpx.patch(url, json={"properties": {"title": "x"}}, headers={"If-Match": etag})
        assert stale.status_code == 412
        assert httpx.get(url).json()["properties"]["title"] == "new"

    def test_json_patch_tests_before_it_changes(self, workspace: Api) -> None:
        run, _ = workspace.create_item(RUNS, run_item())
        patch = [
            {"op": "test", "path": "/properties/mlops:attempt", "value": 2},
            {"op": "add", "path": "/properties/title", "value": "never"},
        ]
        with pytest.raises(ConflictError, match="test failed"):
            workspace.json_patch(RUNS, run["id"], patch)
        assert workspace.get_item(RUNS, run["id"]).item["properties"]["title"] == run["id"]


class TestDatasetVersions:
    def test_same_content_is_no_new_version(self, workspace: Api) -> None:
        again, created = workspace.create_item(DATA, dataset_item())
        assert (again["id"], created) == ("fields-v1", False)

    def test_versions_are_linked(self, workspace: Api) -> None:
        for digest in ("b", "c"):
            workspace.create_item(DATA, dataset_item(digest * 64))
        first, second, third = (
            {link["rel"]: link["href"].rsplit("/", 1)[1] for link in item["links"]}
            for item in (workspace.get_item(DATA, f"fields-v{n}").item for n in (1, 2, 3))
        )
        assert first["successor-version"] == second["self"] == third["predecessor-version"]
        assert second["predecessor-version"] == first["self"]
        assert {links["latest-version"] for links in (first, second, third)} == {"fields-v3"}

    def test_links_close_over_a_version_that_is_deleted(self, workspace: Api) -> None:
        for digest in ("b", "c", "d"):
            workspace.create_item(DATA, dataset_item(digest * 64))

        def links(number: int) -> dict[str, str]:
            item = workspace.get_item(DATA, f"fields-v{number}").item
            return {
                link["rel"].removesuffix("-version"): link["href"].rsplit("-", 1)[1]
                for link in item["links"]
                if link["rel"].endswith("-version")
            }

        workspace.delete_item(DATA, "fields-v2")
        assert links(1) == {"latest": "v4", "successor": "v3"}
        assert links(3) == {"latest": "v4", "predecessor": "v1", "successor": "v4"}
        workspace.delete_item(DATA, "fields-v4")
        assert links(1) == {"latest": "v3", "successor": "v3"}
        assert links(3) == {"latest": "v3", "predecessor": "v1"}
        workspace.delete_item(DATA, "fields-v1")
        assert links(3) == {"latest": "v3"}
        workspace.create_item(DATA, dataset_item("e" * 64))
        assert links(3) == {"latest": "v5", "successor": "v5"}

    def test_is_not_made_where_it_is_there(self, http: httpx.Client) -> None:
        for identity in ("fields-v1", "fields-v2"):
            item = {**dataset_item(), "id": identity}
            url = f"/collections/{DATA}/items/{identity}"
            assert http.put(url, json=item, headers={"If-None-Match": "*"}).status_code == 412

    @pytest.mark.parametrize(
        "change", [{"x:more": 1}, {"stac_extensions": []}, {"stac_version": "1.0.0"}]
    )
    def test_version_is_immutable_as_a_whole(self, workspace: Api, change: dict[str, Any]) -> None:
        with pytest.raises(ConflictError, match="immutable"):
            workspace.merge_patch(DATA, "fields-v1", change)

    def test_version_is_immutable(self, workspace: Api) -> None:
        with pytest.raises(ConflictError, match="immutable"):
            workspace.merge_patch(DATA, "fields-v1", {"properties": {"mlops:samples": 4}})
        titled = workspace.merge_patch(DATA, "fields-v1", {"properties": {"title": "Fields"}})
        assert titled["properties"]["title"] == "Fields"


class TestModel:
    def test_ends_its_run_in_the_same_transaction(
        self, api_server: ApiServer, workspace: Api, database_url: str
    ) -> None:
        run, _ = workspace.create_item(RUNS, run_item())
        system = api_server.system()
        model, created = system.create_item(MODELS, model_item(run["id"]))
        assert (model["id"], created) == ("landcover-v1", True)
        assert system.create_item(MODELS, model_item(run["id"]))[1] is False
        ended = workspace.get_item(RUNS, run["id"]).item
        assert ended["properties"]["mlops:status"] == "successful"
        links = {link["rel"]: link["href"] for link in ended["links"]}
        assert links["model"] == f"{workspace.url}/collections/{MODELS}/items/landcover-v1"
        assert events(database_url) == [
            ("training-data.created", "fields-v1"),
            ("run.accepted", run["id"]),
            ("model.created", "landcover-v1"),
            ("run.successful", run["id"]),
        ]

    def test_of_an_ended_run_is_refused(self, api_server: ApiServer, workspace: Api) -> None:
        run, _ = workspace.create_item(RUNS, run_item())
        workspace.delete_item(RUNS, run["id"])
        with pytest.raises(ConflictError, match="dismissed"):
            api_server.system().create_item(MODELS, model_item(run["id"]))
        assert workspace.get_json(f"/collections/{MODELS}/items")["features"] == []

    def test_is_the_systems_to_make(self, workspace: Api) -> None:
        run, _ = workspace.create_item(RUNS, run_item())
        with pytest.raises(ApiError) as caught:
            workspace.create_item(MODELS, model_item(run["id"]))
        assert caught.value.status == 403


class TestTracking:
    def points(self, *values: tuple[str, int, float | str]) -> list[dict[str, Any]]:
        time = "2026-01-01T00:00:00Z"
        return [{"name": n, "step": s, "time": time, "value": v} for n, s, v in values]

    @pytest.mark.parametrize(
        ("change", "pointer"),
        [
            ({"value": "1_000"}, "/points/0/value"),
            ({"value": "nan"}, "/points/0/value"),
            ({"value": True}, "/points/0/value"),
            ({"time": "2026-01-01T00:00:00"}, "/points/0/time"),
            ({"time": 5}, "/points/0/time"),
            ({"time": "0001-01-01T00:00:00+14:00"}, "/points/0/time"),
        ],
    )
    def test_a_point_that_is_wrong_is_refused(
        self, workspace: Api, api_server: ApiServer, change: dict[str, Any], pointer: str
    ) -> None:
        run, _ = workspace.create_item(RUNS, run_item())
        job = api_server.job(RUNS, run["id"])
        point = self.points(("loss", 1, 0.5))[0] | change
        with pytest.raises(ApiError) as caught:
            job.send_metrics(RUNS, run["id"], batch="1", attempt=1, points=[point])
        assert [fault["pointer"] for fault in caught.value.problem["errors"]] == [pointer]
        assert workspace.read_metrics(RUNS, run["id"])["points"] == []

    def test_metrics_keep_history_and_last_value(
        self, api_server: ApiServer, workspace: Api
    ) -> None:
        run, _ = workspace.create_item(RUNS, run_item())
        job = api_server.job(RUNS, run["id"])
        first = self.points(("loss", 0, 1.0), ("loss", 1, 0.5))
        for _ in range(2):  # the same batch twice counts once
            job.send_metrics(RUNS, run["id"], batch="1:0", attempt=1, points=first, progress=0.5)
        more = self.points(("loss", 2, "NaN"), ("f1", 2, 0.25))
        job.send_metrics(RUNS, run["id"], batch="1:9", attempt=1, points=more)
        history = workspace.read_metrics(RUNS, run["id"])
        assert [(p["name"], p["step"], p["value"]) for p in history["points"]] == [
            ("loss", 0, 1.0),
            ("loss", 1, 0.5),
            ("loss", 2, "NaN"),
            ("f1", 2, 0.25),
        ]
        assert workspace.read_metrics(RUNS, run["id"], history["cursor"])["points"] == []
        properties = workspace.get_item(RUNS, run["id"]).item["properties"]
        assert properties["mlops:metrics"] == {"loss": 0.5, "f1": 0.25}
        assert properties["mlops:progress"] == 0.5

    def test_too_many_metrics_do_not_lock_the_run(
        self, api_server: ApiServer, workspace: Api
    ) -> None:
        settings = api_server.settings.model_copy(update={"max_body_bytes": 100_000})
        run, _ = workspace.create_item(RUNS, run_item())
        with serving(settings) as url:
            token = issue_system_token(api_server.secret, "tests")
            with Api(url, token, patience=0) as system:
                for batch in range(4):
                    values = [(f"{batch}:{'x' * 40}{n}", 0, 1.5) for n in range(400)]
                    points = self.points(("loss", batch, float(batch)), *values)
                    system.send_metrics(RUNS, run["id"], batch=f"{batch}", attempt=1, points=points)
                ended = {"mlops:status": "failed", "mlops:exit": {"reason": "x" * 2_000}}
                system.merge_patch(RUNS, run["id"], {"properties": ended})
        properties = workspace.get_item(RUNS, run["id"]).item["properties"]
        assert (properties["mlops:status"], properties["mlops:metrics"]["loss"]) == ("failed", 3.0)
        assert len(properties["mlops:metrics"]) == 801
        assert len(workspace.read_metrics(RUNS, run["id"])["points"]) == 4 * 401

    def test_what_a_client_says_does_not_lock_the_run(
        self, api_server: ApiServer, workspace: Api
    ) -> None:
        settings = api_server.settings.model_copy(update={"max_body_bytes": 100_000})
        token = issue_system_token(api_server.secret, "tests")
        full = {"x:note": "x" * 48_000}
        with serving(settings) as url, httpx.Client(base_url=f"{url}/collections/{RUNS}") as http:
            run = {**run_item(**full), "id": "full"}
            assert http.post("/items", json=run).status_code == 201
            more = {"properties": {"x:more": "x" * 4_000}}
            patch = {"Content-Type": "application/merge-patch+json"}
            assert http.patch("/items/full", json=more, headers=patch).status_code == 413
            less = {"properties": {"title": "shorter", "x:note": "x" * 40_000}}
            assert http.patch("/items/full", json=less, headers=patch).status_code == 204
            run["properties"]["x:note"] += "x" * 3_000
            for size in (0, 30_000):
                run["properties"]["x:note"] += "x" * size
                run["id"] = f"larger-{size}"
                assert http.post("/items", json=run).status_code == 413
                body = {"items": {run["id"]: run}}
                assert http.post("/bulk_items", json=body).status_code == 413
            # Hrefs are longer where they are read.
            run["properties"].pop("x:note")
            run["links"] += [{"rel": "see", "href": "x"}] * 1_500
            assert http.post("/items", json={**run, "id": "of-links"}).status_code == 413
            with Api(url, token, patience=0) as system:
                ended = {"mlops:status": "failed", "mlops:exit": {"reason": "x" * 20_000}}
                system.merge_patch(RUNS, "full", {"properties": ended})
        assert workspace.get_item(RUNS, "full").item["properties"]["mlops:status"] == "failed"

    @pytest.mark.parametrize(
        "time", ["2026-01-01T00:00:00", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"]
    )
    def test_times_are_points_in_time(
        self, api_server: ApiServer, workspace: Api, time: str
    ) -> None:
        run, _ = workspace.create_item(RUNS, run_item())
        points = [{"name": "loss", "step": 0, "time": time, "value": 1.0}]
        with pytest.raises(ApiError) as caught:
            api_server.system().send_metrics(RUNS, run["id"], batch="x", attempt=1, points=points)
        assert caught.value.status == 422

    def test_log_is_appended_once(self, api_server: ApiServer, workspace: Api) -> None:
        run, _ = workspace.create_item(RUNS, run_item())
        job = api_server.job(RUNS, run["id"])
        for offset, text in ((0, b"one\n"), (0, b"one\ntwo\n"), (8, "drei ü\n".encode())):
            job.append_log(RUNS, run["id"], attempt=1, offset=offset, text=text)
        text, end = workspace.read_log(RUNS, run["id"])
        assert text == "one\ntwo\ndrei ü\n"
        assert workspace.read_log(RUNS, run["id"], 4) == ("two\ndrei ü\n", end)
        assert workspace.read_log(RUNS, run["id"], end) == ("", end)
        with pytest.raises(ConflictError, match="ends at byte"):
            job.append_log(RUNS, run["id"], attempt=1, offset=end + 1, text=b"x")

    def test_only_the_job_may_tell(self, workspace: Api) -> None:
        run, _ = workspace.create_item(RUNS, run_item())
        with pytest.raises(ApiError) as caught:
            workspace.send_metrics(RUNS, run["id"], batch="x", attempt=1, points=[])
        assert caught.value.status == 403


class TestFidelity:
    def test_what_is_read_is_what_was_written(self, workspace: Api) -> None:
        """Nulls, unknown fields and exact numbers, by GET and by search."""
        run = run_item(
            **{"x:null": None, "x:deep": {"a": [None, {"b": None}]}, "x:number": 0.1234567890123456}
        )
        run["x:foreign"] = {"kept": None}
        created, _ = workspace.create_item(RUNS, run)
        assert created["x:foreign"] == {"kept": None}
        for read in (
            workspace.get_item(RUNS, created["id"]).item,
            next(workspace.search(ids=[created["id"]])),
        ):
            assert read == created
            assert read["properties"]["x:null"] is None
            assert read["properties"]["x:deep"] == {"a": [None, {"b": None}]}


class TestSearch:
    def test_filter_and_paging(self, workspace: Api) -> None:
        ids = {workspace.create_item(RUNS, run_item())[0]["id"] for _ in range(5)}
        found = workspace.search(
            collections=[RUNS],
            limit=2,
            **{
                "filter-lang": "cql2-json",
                "filter": {
                    "op": "in",
                    "args": [{"property": "mlops:status"}, ["accepted", "running"]],
                },
            },
        )
        assert {item["id"] for item in found} == ids

    def test_collections_are_listed(self, workspace: Api) -> None:
        listed = workspace.get_json("/collections")["collections"]
        assert {c["id"] for c in listed} == {RUNS, MODELS, DATA}


class TestAssets:
    def test_upload_is_by_checksum(self, workspace: Api, tmp_path: Any) -> None:
        import hashlib

        path = tmp_path / "file.tif"
        path.write_bytes(b"content")
        sha256 = hashlib.sha256(b"content").hexdigest()
        files = [{"sha256": sha256, "size": 7}]
        missing = workspace.plan_uploads("alps", files)["missing"]
        workspace.upload(missing[0]["url"], path)
        assert workspace.plan_uploads("alps", files)["missing"] == []
        assert httpx.get(missing[0]["url"]).content == b"content"
        part = httpx.get(missing[0]["url"], headers={"Range": "bytes=3-"})
        assert (part.status_code, part.content) == (206, b"tent")

    def test_wrong_content_is_refused(self, workspace: Api) -> None:
        url = f"{workspace.url}/assets/alps/training-data/blobs/aa/{'a' * 64}"
        assert httpx.put(url, content=b"x").status_code == 422
        assert httpx.get(url).status_code == 404

    @pytest.mark.parametrize("path", ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/x", ""])
    def test_nothing_else_can_be_read(self, workspace: Api, path: str) -> None:
        assert httpx.get(f"{workspace.url}/assets/alps/{path}").status_code in (404, 405)
