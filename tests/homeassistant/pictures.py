#!/usr/bin/env python3
"""Takes pictures of pages of a Home Assistant with headless Chromium.

Its one argument is a JSON object: url, token, client_id, directory, and pages (name: path).
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
        page = context.new_page()
        for name, path in given["pages"].items():
            page.goto(given["url"] + path)
            # Home Assistant draws itself bit by bit and says nowhere that it is done.
            page.wait_for_timeout(8000)
            page.screenshot(path=str(directory / f"{name}.png"))
        browser.close()


main()
