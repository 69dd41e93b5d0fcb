"""Themes are files, the user's own among them; each leaves everything readable."""

from pathlib import Path

import pytest
from meshtui.screens.memory import recall
from textual.color import Color

from meshtui import themes
from tests.support.waiting import eventually
from tests.tui import scenes
from tests.tui.conftest import opened, settled, shown
from tests.tui.scripted import ScriptedClient


def user_theme(name: str, text: str) -> Path:
    folder = themes.user_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def test_shipped_themes_load() -> None:
    found, broken = themes.load()
    assert {"meshtui-dark", "meshtui-light", "meshtui-ansi"} <= {theme.name for theme in found}
    assert broken == []


@pytest.mark.parametrize("name", ["meshtui-dark", "meshtui-light"])
def test_text_stands_out_from_its_background(name: str) -> None:
    """WCAG 2.1, 1.4.3: 4.5 to 1 for what is read, which holds for the colours of states too."""
    [theme] = [theme for theme in themes.load()[0] if theme.name == name]
    colours = {**theme.colours, **theme.variables}
    for role in ("foreground", "strong", "muted", "key", "success", "warning", "error"):
        for ground in ("background", "surface"):
            ratio = contrast(Color.parse(colours[role]), Color.parse(colours[ground]))
            assert ratio >= 4.5, f"{role} on {ground}: {ratio:.2f}"


def contrast(one: Color, other: Color) -> float:
    """The contrast ratio of WCAG 2.1."""

    def luminance(colour: Color) -> float:
        def linear(value: int) -> float:
            share = value / 255
            return share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4

        return 0.2126 * linear(colour.r) + 0.7152 * linear(colour.g) + 0.0722 * linear(colour.b)

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


async def test_a_theme_of_the_users_own_is_offered_and_remembered() -> None:
    user_theme("forest", '[colours]\nprimary = "#3a7d44"\nbackground = "#101810"\n')
    async with opened(ScriptedClient()) as (app, pilot):
        await pilot.press("ctrl+p")
        await settled(pilot)
        await pilot.press(*"forest")
        await eventually(lambda: "Theme: forest" in shown(app), "the theme in the palette")
        await pilot.press("enter")
        await eventually(lambda: app.theme == "forest", "the theme")
        await eventually(lambda: recall().theme == "forest", "its being remembered")
    async with opened(ScriptedClient()) as (app, _pilot):
        assert app.theme == "forest"


@pytest.mark.parametrize(
    "text",
    [
        "[colours\n",
        "[colours]\nprimary = 7\n",
        '[colours]\npink = "#fff"\n',
        "dark = true\n",
        '[colours]\nprimary = "so blue"\n',
    ],
)
async def test_a_broken_theme_is_a_problem_with_its_reason(text: str) -> None:
    user_theme("odd", text)
    async with opened(ScriptedClient()) as (app, pilot):
        assert "1 problem" in shown(app)
        await pilot.press("f3", "!")
        await settled(pilot)
        assert "odd" in shown(app)


async def test_a_change_of_theme_repaints_answers() -> None:
    client = ScriptedClient()
    async with opened(client) as (app, pilot):
        block = await scenes.answered(app, client, pilot)
        app.theme = "meshtui-light"
        await eventually(lambda: block.shows_markdown, "Markdown in the new colours")
        await settled(pilot)
        assert "Paris" in shown(app)
