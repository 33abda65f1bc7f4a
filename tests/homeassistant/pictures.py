#!/usr/bin/env python3
"""Takes pictures of pages of a Home Assistant with headless Chromium.

Its one argument is a JSON object: url, token, client_id, directory, pages (name: path), and clicks: lists of a path,
the text to click on there, and the end of the address to which that leads. Fails if a card shows an error.
"""

import json
import pathlib
import sys

from playwright.sync_api import sync_playwright

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# Size of a picture of a page that is still empty, in bytes.
EMPTY = 40_000
# Time for a page to draw itself, in seconds.
PATIENCE = 90


def no_errors(page, path):
    """Fails if a card of the page is broken, or names an entity that is not there."""
    for element in ["hui-error-card", "hui-error-badge", "hui-warning", "hui-error-heading-badge"]:
        wrong = page.locator(element)
        if wrong.count():
            raise SystemExit(f"{path}: {element}: {wrong.all_inner_texts()}")


def drawn(page, said):
    """Returns a picture of the page once it has drawn itself: it does so bit by bit, and says nowhere that it is done.

    Fails with what the browser said if it stays empty.
    """
    before = 0
    for _ in range(PATIENCE):
        page.wait_for_timeout(1000)
        picture = page.screenshot()
        steady = abs(len(picture) - before) < len(picture) / 50
        if len(picture) > EMPTY and steady:
            break
        before = len(picture)
    if len(picture) <= EMPTY:
        raise SystemExit(f"{page.url} stays empty; the browser said:\n" + "\n".join(said[-40:]))
    return picture


# Home Assistant rejects with plain objects, which the browser calls "Object".
REJECTIONS = """addEventListener("unhandledrejection", ({reason}) =>
  console.error(`rejected: ${JSON.stringify(reason)} ${reason && reason.stack}`))"""


def listen(page):
    """Returns a list that gets what the browser complains about."""
    said = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("requestfailed", lambda request: said.append(f"failed: {request.url}: {request.failure}"))
    page.on(
        "response",
        lambda answer: said.append(f"{answer.status}: {answer.url}") if answer.status >= 400 else None,
    )
    return said


def main():
    given = json.loads(sys.argv[1])
    directory = pathlib.Path(given["directory"])
    directory.mkdir(parents=True, exist_ok=True)
    tokens = json.dumps({
        "access_token": given["token"],
        "token_type": "Bearer",
        "expires_in": 1800,
        "hassUrl": given["url"],
        "clientId": given["client_id"],
        "expires": 4102444800000,
        "refresh_token": "",
    })
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=QUIET)
        context = browser.new_context(viewport={"width": 1680, "height": 1050})
        context.add_init_script(f"localStorage.setItem('hassTokens', {json.dumps(tokens)})")
        context.add_init_script(REJECTIONS)
        page = context.new_page()
        said = listen(page)
        for name, path in given["pages"].items():
            page.goto(given["url"] + path)
            (directory / f"{name}.png").write_bytes(drawn(page, said))
            no_errors(page, path)
        for path, text, end in given["clicks"]:
            page.goto(given["url"] + path)
            page.get_by_text(text, exact=True).first.click()
            page.wait_for_url(f"**{end}")
            drawn(page, said)
            no_errors(page, end)
        browser.close()


main()
