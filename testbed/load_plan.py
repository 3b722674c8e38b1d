"""What a load shall be: who does what, how many, for how long, and how much may be asked for."""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from testbed.errors import UsageError
from testbed.load_shapes import SHAPES, Shape
from testbed.site import Person, Site

# Somebody else's facility is asked no more than this, unless the person says so.
POLITE_PEOPLE = 5
POLITE_SECONDS = 900.0
POLITE_PAUSE_S = 5.0
LONGEST_S = 4 * 3600.0


@dataclass(frozen=True)
class Behaviour:
    """What one kind of person does between coming and going.

    `enters`: `login` is the whole login, in a new browser session, every time; `page` is the
    hub's home in a session from before; `token` needs no browser.
    """

    name: str
    title: str
    enters: Literal["login", "page", "token"] = "token"
    computes: bool = False
    leaves: bool = False

    @property
    def needs_password(self) -> bool:
        return self.enters != "token"


BEHAVIOURS = {
    each.name: each
    for each in (
        Behaviour("newcomer", "logs in with password and code, works, logs out", "login"),
        Behaviour("returning", "comes back to the hub's page in a session from before", "page"),
        Behaviour("script", "uses a token and no page"),
        Behaviour("computing", "runs a notebook that computes", computes=True),
        Behaviour("leaver", "goes away and leaves the server running", leaves=True),
    )
}


class LoadPlan(BaseModel):
    """A load as it was asked for. Times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    behaviours: tuple[str, ...] = Field(min_length=1)
    shape: str
    backend: str
    people: Annotated[int, Field(ge=1)]
    seconds: Annotated[float, Field(gt=0, le=LONGEST_S)]
    pause_s: Annotated[float, Field(ge=0, le=600)]
    timeout_s: Annotated[float, Field(ge=1, le=3600)]
    seed: int = 1

    def made(self) -> Shape:
        """The shape, made for so many people and seconds."""
        return SHAPES[self.shape](self.people, self.seconds, self.seed)

    @property
    def visit_s(self) -> float:
        """The longest that one visit may take: server, kernel, cells, stop, each their time."""
        return 4 * self.timeout_s + 60

    @classmethod
    def checked(
        cls,
        site: Site,
        *,
        own: bool,
        most_people: int = POLITE_PEOPLE,
        most_seconds: float = POLITE_SECONDS,
        **asked: object,
    ) -> Self:
        """A plan that this site can carry out and that asks no more of it than may be.

        Args:
            own: Whether the site is a testbed of one's own, which has no ceilings.
            asked: The plan's fields.

        Raises:
            UsageError: It is not so; every error is in the message.
        """
        problems: list[str] = []
        plan: Self | None = None
        try:
            plan = cls.model_validate(asked)
        except ValidationError as error:
            problems += [f"{d['loc'][0]}: {d['msg']}" for d in error.errors()]
        if plan is not None:
            problems += _problems(plan, site)
            if not own and plan.people > most_people:
                problems.append(
                    f"{plan.people} people asked; at a facility of somebody else's {most_people} "
                    f"may be (if its operators agreed: --most-people {plan.people})"
                )
            if not own and plan.seconds > most_seconds:
                problems.append(
                    f"{plan.seconds:g} s asked; at a facility of somebody else's "
                    f"{most_seconds:g} s may be (--most-seconds {plan.seconds:g})"
                )
        if plan is None or problems:
            raise UsageError(
                "this load cannot be" if len(problems) == 1 else f"{len(problems)} errors",
                seen="\n" + "\n".join(f"  {line}" for line in problems),
                cure="testbed bench load --help",
            )
        return plan

    def accounts(self, site: Site) -> list[Person]:
        """Whose accounts are used: the first `people` that every behaviour can use."""
        return suitable(site, self.behaviours)[: self.people]


def suitable(site: Site, behaviours: tuple[str, ...]) -> list[Person]:
    """The site's students and then its other people that all of these behaviours can use."""
    found = site.people("student") + site.people("person")
    if any(BEHAVIOURS[name].needs_password for name in behaviours):
        found = tuple(person for person in found if person.logs_in_by == "password")
    return list(found)


def _problems(plan: LoadPlan, site: Site) -> list[str]:
    problems = []
    unknown = [name for name in plan.behaviours if name not in BEHAVIOURS]
    if unknown:
        problems.append(f"no behaviour {', '.join(unknown)}; there are {', '.join(BEHAVIOURS)}")
    if plan.shape not in SHAPES:
        problems.append(f"no shape {plan.shape}; there are {', '.join(SHAPES)}")
    if plan.backend not in site.backends:
        problems.append(
            f"site {site.name} has no {plan.backend}; it has {', '.join(site.backends)}"
        )
    if not unknown and (there := len(suitable(site, plan.behaviours))) < plan.people:
        problems.append(
            f"{plan.people} people asked; site {site.name} has {there} that can do this"
            + (" (newcomer and returning need a password)" if there < len(site.people()) else "")
        )
    return problems
