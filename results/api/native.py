"""The routes of our own: recommendations, what there is to ask about, the runs behind it."""

from __future__ import annotations

import re
from dataclasses import asdict, fields
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import Field, TypeAdapter

from results.api import shown
from results.api.direct import Handler
from results.api.door import (
    AskedQuestion,
    checked,
    manifest_of_query,
    not_found,
    parameters,
    question_of_body,
    question_of_query,
)
from results.api.encode import answer_document, document, encoded
from results.api.problems import Problem, Refused
from results.api.replies import JSON, of_snapshot, reply, unchanged
from results.api.runs import RunFilter, StoreRuns
from results.api.snapshots import Serving
from results.errors import NotDeployable, RecordNotFound
from results.manifests import manifests
from results.recommendation.lookup import Lookup
from results.recommendation.profile import Profile
from results.recommendation.question import USE_CASES

DEFAULT_LIMIT, MAX_LIMIT = 50, 500
_RUN_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
_LIMIT: Final[TypeAdapter[int]] = TypeAdapter(Annotated[int, Field(ge=1, le=MAX_LIMIT)])
_FILTERS: Final = tuple(f.name for f in fields(RunFilter))


class Native:
    """Handlers of one ``Serving`` and its store's runs."""

    def __init__(self, serving: Serving, runs: StoreRuns) -> None:
        self._serving = serving
        self._runs = runs

    def router(self) -> APIRouter:
        made = APIRouter(tags=["windtunnel"], default_response_class=Response)
        add: Any = made.add_api_route
        add("/v1/recommendations", self.post_question, methods=["POST"], **shown.POST_QUESTION)
        add("/v1/recommendations", self.get_question, methods=["GET"], **shown.GET_QUESTION)
        add("/v1/profiles/{profile_id}", self.get_profile, methods=["GET"], **shown.PROFILE)
        add("/v1/models", self.get_models, methods=["GET"], **shown.MODELS)
        add("/v1/accelerators", self.get_accelerators, methods=["GET"], **shown.ACCELERATORS)
        add("/v1/manifests", self.get_manifests, methods=["GET"], **shown.MANIFESTS)
        add("/v1/use-cases", get_use_cases, methods=["GET"], **shown.USE_CASES)
        add("/v1/runs", self.get_runs, methods=["GET"], **shown.RUNS)
        add("/v1/runs/{run_id}", self.get_run, methods=["GET"], **shown.RUN)
        return made

    @property
    def most_asked(self) -> dict[tuple[str, str], Handler]:
        """By method and path: see ``Direct``."""
        path = "/v1/recommendations"
        return {("GET", path): self.get_question, ("POST", path): self.post_question}

    async def post_question(self, request: Request) -> Response:
        return self._answer(request, question_of_body(await request.body()))

    async def get_question(self, request: Request) -> Response:
        return self._answer(request, question_of_query(request.scope["query_string"]))

    def _answer(self, request: Request, question: AskedQuestion) -> Response:
        snapshot, now = self._serving.current, self._serving.clock.now_utc()
        same = unchanged(request, snapshot.etag(now))
        if same is not None:
            return same
        key = (encoded(question), now.date())  # a text keeps its hash, a question finds it anew
        body = snapshot.kept.get(key)
        if body is None:
            body = answer_document(snapshot.lookup.answer(question, now, written=True))
            snapshot.kept.put(key, body)
        return of_snapshot(body, snapshot, now)

    async def get_profile(self, request: Request) -> Response:
        parameters(request.scope["query_string"], ())
        snapshot, now = self._serving.current, self._serving.clock.now_utc()
        profile = _profile(snapshot.lookup, request.path_params["profile_id"])
        same = unchanged(request, snapshot.etag(now))
        if same is not None:
            return same
        snapshot_id = snapshot.lookup.snapshot_id
        body = document("windtunnel.profile/1", profile, snapshot_id=snapshot_id)
        return of_snapshot(body, snapshot, now)

    async def get_manifests(self, request: Request) -> Response:
        asked = manifest_of_query(request.scope["query_string"])
        snapshot, now = self._serving.current, self._serving.clock.now_utc()
        profile = _profile(snapshot.lookup, asked.profile_id)
        same = unchanged(request, snapshot.etag(now))
        if same is not None:
            return same
        try:
            made = manifests(profile, asked.options, asked.platform)
        except NotDeployable as error:
            raise Refused(_not_deployable(asked.profile_id, str(error))) from None
        body = document("windtunnel.manifest/1", made, profile_id=asked.profile_id)
        return of_snapshot(body, snapshot, now)

    async def get_models(self, request: Request) -> Response:
        return self._summary(request, "models")

    async def get_accelerators(self, request: Request) -> Response:
        return self._summary(request, "accelerators")

    def _summary(self, request: Request, what: str) -> Response:
        parameters(request.scope["query_string"], ())
        snapshot, now = self._serving.current, self._serving.clock.now_utc()
        same = unchanged(request, snapshot.etag(now))
        if same is not None:
            return same
        body = snapshot.kept.get(what)
        if body is None:
            lookup = snapshot.lookup
            found: dict[str, Any] = (
                {"models": lookup.models(), "trainings": lookup.trainings()}
                if what == "models"
                else {"accelerators": lookup.accelerators()}
            )
            body = document(f"windtunnel.{what}/1", found, snapshot_id=lookup.snapshot_id)
            snapshot.kept.put(what, body)
        return of_snapshot(body, snapshot, now)

    async def get_runs(self, request: Request) -> Response:
        given = parameters(request.scope["query_string"], ("limit", "before", *_FILTERS))
        limit = checked(_LIMIT, given.pop("limit", DEFAULT_LIMIT), "runs", field="limit")
        before = given.pop("before", "")
        page = await self._runs.page(RunFilter(**given), before, limit)
        return reply(document("windtunnel.runs/1", page))

    async def get_run(self, request: Request) -> Response:
        parameters(request.scope["query_string"], ())
        run_id: str = request.path_params["run_id"]
        if not _RUN_ID.fullmatch(run_id):
            raise not_found(
                "a run", "that is no run id", "Take one from /v1/runs: 20261123T170000Z-1f0c3a9b2e"
            )
        try:
            return reply(await self._runs.record(run_id), JSON)
        except RecordNotFound as error:
            raise not_found(f"run {run_id}", str(error), "Take an id from /v1/runs") from None


def _profile(lookup: Lookup, profile_id: str) -> Profile:
    found = lookup.profile(profile_id)
    if found is None:
        raise not_found(
            f"profile {profile_id[:64]}",
            f"none of the {lookup.num_profiles} profiles has that id",
            "Take an id from an answer of /v1/recommendations; a newer snapshot may lack it",
        )
    return found


def _not_deployable(profile_id: str, found: str) -> Problem:
    return Problem(
        kind="not-deployable",
        status=HTTPStatus.UNPROCESSABLE_ENTITY,
        asked=f"a manifest of profile {profile_id}",
        found=found,
        what_to_do="Take another of the answer's recommendations",
    )


async def get_use_cases(request: Request) -> Response:
    parameters(request.scope["query_string"], ())
    cases = [{"name": name, **asdict(case)} for name, case in USE_CASES.items()]
    return reply(document("windtunnel.use-cases/1", {"use_cases": cases}))
