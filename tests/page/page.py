#!/usr/bin/env python3
"""Uses the page with headless Chromium, as its users do, and checks it with axe.

Its one argument is a JSON object: tour (`whole` or `hostile`), url, password, and directory for the pictures.
"""

import json
import pathlib
import sys

import axe_playwright_python
from playwright.sync_api import expect, sync_playwright

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AXE = next(pathlib.Path(axe_playwright_python.__file__).parent.glob("**/axe.min.js")).read_text()
SIZES = {"phone": {"width": 390, "height": 844}, "desktop": {"width": 1280, "height": 900}}
SCHEMES = ["light", "dark"]


class Browser:
    """One context of a browser, which notes what must not happen."""

    def __init__(self, browser, given, size="desktop", scheme="light", cookies=None):
        self.given = given
        self.context = browser.new_context(viewport=SIZES[size], color_scheme=scheme, reduced_motion="reduce")
        if cookies:
            self.context.add_cookies(cookies)
        self.page = self.context.new_page()
        self.wrong = []
        self.page.on("dialog", lambda dialog: (self.wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("console", self.note_console)
        self.page.on("request", self.note_request)

    def note_console(self, message):
        # What the test itself refuses: a wrong password, and what is asked without a session.
        if message.type == "error" and "401" not in message.text and "409" not in message.text:
            self.wrong.append(f"console: {message.text}")

    def note_request(self, request):
        if not request.url.startswith(self.given["url"]):
            self.wrong.append(f"request to {request.url}")

    def picture(self, name, full_page=True):
        directory = pathlib.Path(self.given["directory"])
        directory.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=directory / f"{name}.png", full_page=full_page and "dialog" not in name)

    def has_pictures(self):
        """Waits until all pictures are drawn."""
        for image in self.page.locator("img:visible").all():
            expect(image).to_have_js_property("complete", True)

    def accessible(self, what):
        """Fails at what axe finds serious."""
        self.page.evaluate(AXE)
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        for violation in found["violations"]:
            nodes = [node["html"][:200] + " " + node.get("failureSummary", "") for node in violation["nodes"]]
            print(f"axe: {what}: {violation['impact']}: {violation['id']}: {nodes}")
            if violation["impact"] in ("serious", "critical"):
                self.wrong.append(f"axe: {what}: {violation['id']}: {nodes}")

    def fits(self, what):
        """Fails if the page is wider than the screen."""
        wide = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if wide > 0:
            self.wrong.append(f"{what} is {wide} px too wide")

    def done(self):
        cookies = self.context.cookies()
        self.context.close()
        if self.wrong:
            raise SystemExit("\n".join(self.wrong))
        return cookies


def tab_to(page, locator):
    """Presses Tab until an element has the focus."""
    for _ in range(60):
        if locator.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise SystemExit(f"Tab does not lead to {locator}")


def log_in(view, given):
    """With the keyboard alone."""
    page = view.page
    page.goto(given["url"])
    view.accessible("login")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This password is wrong.")
    view.accessible("login refused")
    expect(page.get_by_label("Password")).to_be_focused()
    page.keyboard.type(given["password"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Prusa MK3S")).to_be_visible()


def card(page, name):
    return page.get_by_role("article").filter(has=page.get_by_role("heading", name=name, exact=True))


def add_a_printer(view):
    """With the keyboard alone."""
    page = view.page
    tab_to(page, page.get_by_role("button", name="Add a printer"))
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Add a printer")
    expect(dialog).to_be_visible()
    found = dialog.get_by_role("button", name="OctoPrint on prusa-mini")
    expect(found).to_be_visible()
    expect(dialog.get_by_text("already here")).to_have_count(1)
    view.accessible("add dialog")
    tab_to(page, found)
    page.keyboard.press("Enter")
    expect(dialog.get_by_label("Address of OctoPrint")).to_have_value("http://mini.local/")
    # The first try fails, and says why.
    dialog.get_by_label("Address of OctoPrint").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("http://nowhere.local/")
    page.keyboard.press("Enter")
    expect(dialog.get_by_text("the name is not known")).to_be_visible()
    dialog.get_by_label("Address of OctoPrint").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("http://mini.local/")
    name = dialog.get_by_label("Name")
    tab_to(page, name)
    page.keyboard.press("Control+A")
    page.keyboard.type("Prusa Mini")
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    pairing = page.get_by_role("region", name="Pairing")
    expect(pairing).to_contain_text("click Allow in OctoPrint")
    link = pairing.get_by_role("link", name="Open OctoPrint")
    expect(link).to_have_attribute("href", "http://mini.local/plugin/appkeys/auth/1")
    view.accessible("pairing")
    view.picture("pairing")
    # The bridge of this test then allows it.
    page.get_by_role("button", name="Allow adding over MQTT").click()
    expect(pairing).to_contain_text("Prusa Mini is added.")
    expect(card(page, "Prusa Mini")).to_be_visible()
    pairing.get_by_role("button", name="Close").click()
    expect(pairing).to_be_hidden()
    order = page.get_by_role("heading", level=3).all_inner_texts()
    if order != ["Ender 3", "Prusa Mini", "Prusa MK3S", "Voron 2.4"]:
        view.wrong.append(f"the order is {order}")


def change_and_remove(view):
    page = view.page
    page.get_by_role("button", name="Change Prusa Mini").click()
    dialog = page.get_by_role("dialog", name="Change Prusa Mini")
    view.accessible("change dialog")
    view.picture("change-dialog")
    dialog.get_by_label("Name").fill("Mini & <b>more</b>")
    dialog.get_by_label("G-code").check()
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_be_hidden()
    page.get_by_role("button", name="Change Mini & <b>more</b>").click()
    dialog = page.get_by_role("dialog", name="Change Mini")
    expect(dialog.get_by_label("G-code")).to_be_checked()
    dialog.get_by_role("button", name="Remove…").click()
    asks = page.get_by_role("alertdialog")
    expect(asks).to_contain_text("Remove Mini & <b>more</b>?")
    view.accessible("remove dialog")
    page.keyboard.press("Escape")
    expect(asks).to_be_hidden()
    dialog.get_by_role("button", name="Remove…").click()
    asks.get_by_role("button", name="Remove", exact=True).click()
    expect(asks).to_be_hidden()
    expect(page.get_by_role("article")).to_have_count(3)
    # A printer of the configuration file cannot be changed here.
    expect(page.get_by_role("button", name="Change Voron 2.4")).to_have_count(0)


def check(view):
    page = view.page
    page.get_by_role("button", name="Check").click()
    dialog = page.get_by_role("dialog", name="Check")
    expect(dialog).to_contain_text("Problems: 1 of 3")
    expect(dialog.get_by_role("listitem")).to_have_count(3)
    view.accessible("check dialog")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Check")).to_be_focused()


def lives(view):
    """A print goes on without anybody doing anything, and without losing the focus."""
    page = view.page
    printing = card(page, "Prusa MK3S")
    button = printing.get_by_role("button", name="Change Prusa MK3S")
    button.focus()
    before = printing.get_by_role("progressbar").get_attribute("value")
    expect(printing.get_by_role("progressbar")).not_to_have_attribute("value", before)
    expect(button).to_be_focused()
    picture = printing.get_by_role("img", name="Preview of benchy_0.2mm_PETG_MK3S.gcode")
    if not picture.evaluate("image => image.complete && image.naturalWidth === 96"):
        view.wrong.append("the picture is not shown")
    graph = printing.get_by_role("img", name="Temperatures of the last ten minutes: Tool 0 from ")
    expect(graph).to_be_visible()


def whole(browser, given):
    view = Browser(browser, given)
    log_in(view, given)
    add_a_printer(view)
    change_and_remove(view)
    check(view)
    lives(view)
    cookies = view.done()
    for scheme in SCHEMES:
        for size in SIZES:
            view = Browser(browser, given, size, scheme, cookies)
            view.page.goto(given["url"])
            expect(view.page.get_by_role("article")).to_have_count(3)
            expect(view.page.get_by_role("img", name="Preview of benchy")).to_be_visible()
            view.page.get_by_role("region", name="Pairing").get_by_role("button", name="Close").click()
            view.has_pictures()
            view.accessible(f"{size} {scheme}")
            view.fits(f"{size} {scheme}")
            view.picture(f"page-{size}-{scheme}")
            view.page.get_by_role("button", name="Add a printer").click()
            expect(view.page.get_by_role("button", name="OctoPrint on prusa-mini")).to_be_visible()
            view.accessible(f"add dialog {size} {scheme}")
            view.fits(f"add dialog {size} {scheme}")
            view.picture(f"add-dialog-{size}-{scheme}")
            view.done()
            view = Browser(browser, given, size, scheme)
            view.page.goto(given["url"])
            view.accessible(f"login {size} {scheme}")
            view.picture(f"login-{size}-{scheme}")
            view.done()
    view = Browser(browser, given, cookies=cookies)
    view.page.goto(given["url"])
    view.page.get_by_role("button", name="Log out").click()
    expect(view.page.get_by_label("Password")).to_be_visible()
    view.done()


def hostile(browser, given):
    for size in SIZES:
        view = Browser(browser, given, size)
        page = view.page
        page.goto(given["url"])
        expect(page.get_by_role("article")).to_have_count(1)
        expect(page.locator("#lines li")).to_have_count(1)
        page.get_by_role("button", name="Find printers").click()
        expect(page.get_by_role("dialog").get_by_text("OctoPrint on prusa-mini")).to_be_visible()
        page.keyboard.press("Escape")
        for name in ["Add a printer", "Change", "Remove", "Allow adding over MQTT"]:
            if page.get_by_role("button", name=name).count():
                view.wrong.append(f"a page that is read-only offers {name}")
        for selector in ["main script", "main img:not([data-is])", "a[href^='javascript:']"]:
            if page.locator(selector).count():
                view.wrong.append(f"there is {selector}")
        view.accessible("hostile")
        view.fits("hostile")
        view.picture(f"hostile-{size}")
        view.done()


def main():
    given = json.loads(sys.argv[1])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=QUIET)
        {"whole": whole, "hostile": hostile}[given["tour"]](browser, given)
        browser.close()


if __name__ == "__main__":
    main()
