#!/usr/bin/env python3
"""Uses the page of a real bridge and the page of a real OctoPrint, as the owner of a printer does.

Its one argument is a JSON object: tour (`flow` or `fleet`), url and password of the page, octoprint (its address), user
and user_password there, and directory for the pictures. It says on standard output which step it has come to, and goes on
when a line comes on standard input.
"""

import json
import re
import sys

from page import QUIET, SCHEMES, SIZES, Browser, card
from playwright.sync_api import Error, expect, sync_playwright

# Names in .local are those of this machine here: Chromium does not ask by multicast.
HOSTS = "--host-resolver-rules=MAP *.local 127.0.0.1"
# How often the network is asked for OctoPrint before it is taken for one without multicast.
SEARCHES = 10
# Time limit for one change to be seen, in milliseconds.
PATIENCE = 60_000

# What stands in the dialog when the network was asked.
ANSWERED = re.compile("^(?!Looking).")


def step(name):
    """Says that a step is reached, and waits until the test has done what belongs to it."""
    print(f"STEP {name}", flush=True)
    if not sys.stdin.readline():
        raise SystemExit(f"the test ended at {name}")


def log_in(view, given):
    page = view.page
    page.goto(given["url"])
    page.get_by_label("Password").fill(given["password"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Printers", exact=True)).to_be_visible()
    # A page that is loaded again loses it.
    page.evaluate("window.isSame = true")


def is_same(view):
    if not view.page.evaluate("window.isSame === true"):
        view.wrong.append("the page was loaded again")


def find(dialog, given):
    """Chooses the OctoPrint that was found; writes its address where the network carries no multicast."""
    port = given["octoprint"].rsplit(":", 1)[1]
    found = dialog.locator("#found button", has_text=f":{port}/")
    text = dialog.locator("#found-text")
    for _ in range(SEARCHES):
        expect(text).to_have_text(ANSWERED)
        if found.count():
            expect(found).to_contain_text("Workshop")
            found.click()
            return
        dialog.get_by_role("button", name="Search again").click()
    print("LEFT OUT: finding OctoPrint in a browser: no multicast", file=sys.stderr, flush=True)
    dialog.get_by_label("Address of OctoPrint").fill(given["octoprint"])


def allow(view, given):
    """Clicks Allow on OctoPrint's own page, to which the link leads."""
    pairing = view.page.get_by_role("region", name="Pairing")
    with view.context.expect_page() as opened:
        pairing.get_by_role("link", name="Open OctoPrint").click()
    octoprint = opened.value
    octoprint.locator("#login-user").fill(given["user"])
    octoprint.locator("#login-password").fill(given["user_password"])
    octoprint.locator("#login-button").click()
    request = octoprint.locator(".ui-pnotify", has_text="Access Request")
    expect(request).to_contain_text("octoprint2mqtt")
    request.get_by_role("button", name="Allow").click()
    expect(pairing).to_contain_text("is added.")
    octoprint.close()


def add(view, given):
    page = view.page
    expect(page.get_by_text("There is no printer yet.")).to_be_visible()
    page.get_by_role("button", name="Add a printer").click()
    dialog = page.get_by_role("dialog", name="Add a printer")
    find(dialog, given)
    dialog.get_by_label("Name").fill("Prusa MK3S")
    dialog.get_by_role("button", name="Ask for access").click()
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("region", name="Pairing")).to_contain_text("click Allow in OctoPrint")
    view.picture("printers-pairing")
    allow(view, given)
    shown = card(page, "Prusa MK3S")
    expect(shown).to_contain_text("operational")
    expect(shown).to_contain_text("connected")
    page.get_by_role("region", name="Pairing").get_by_role("button", name="Close").click()
    # It is known now.
    page.get_by_role("button", name="Add a printer").click()
    expect(dialog.locator("#found-text")).to_have_text(ANSWERED)
    if dialog.get_by_role("button", name="Workshop").count():
        expect(dialog.get_by_role("button", name="Workshop")).to_contain_text("already here")
    page.keyboard.press("Escape")
    step("added")


def watch(view):
    """A print is seen without anybody touching the page."""
    shown = card(view.page, "Prusa MK3S")
    step("print")
    expect(shown.locator("[data-is=state]")).to_have_text("printing")
    expect(shown).to_contain_text("vase.gcode")
    expect(shown).to_contain_text("Print started")
    picture = shown.get_by_role("img", name="Preview of vase.gcode")
    expect(picture).to_have_js_property("naturalWidth", 220)
    bar = shown.get_by_role("progressbar")
    expect(bar).not_to_have_attribute("value", bar.get_attribute("value"))
    heat = shown.locator("[data-is=temperatures]")
    expect(heat).to_contain_text(re.compile(r"Tool 0\s*2\d\d(\.\d)? °C of 215 °C"))
    expect(heat).to_contain_text(re.compile(r"Bed\s*\d\d(\.\d)? °C of 60 °C"))
    graph = shown.get_by_role("img", name=re.compile("Temperatures of the last ten minutes: Tool 0 from "))
    expect(graph.locator("path").first).to_have_attribute("d", re.compile("L"))
    view.picture("printers-printing")
    step("cancel")
    expect(shown).to_contain_text("Print cancelled")
    expect(bar).to_be_hidden()
    expect(shown.locator("[data-is=state]")).to_have_text("operational")
    step("print to the end")
    expect(shown).to_contain_text("Print done")


def change(view):
    page = view.page
    page.get_by_role("button", name="Change Prusa MK3S").click()
    dialog = page.get_by_role("dialog", name="Change Prusa MK3S")
    dialog.get_by_label("Name").fill("Workshop left")
    dialog.get_by_label("G-code").check()
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_be_hidden()
    shown = card(page, "Workshop left")
    expect(shown).to_contain_text("operational")
    page.get_by_role("button", name="Change Workshop left").click()
    dialog = page.get_by_role("dialog", name="Change Workshop left")
    expect(dialog.get_by_label("G-code")).to_be_checked()
    page.keyboard.press("Escape")
    step("changed")


def check(view, findings):
    page = view.page
    page.get_by_role("button", name="Check").click()
    dialog = page.get_by_role("dialog", name="Check")
    expect(dialog.get_by_role("listitem")).to_have_count(findings)
    view.picture("printers-check-dialog")
    texts = dialog.get_by_role("listitem").all_inner_texts()
    told = dialog.locator("#check-text").inner_text()
    page.keyboard.press("Escape")
    return told, texts


def remove(view):
    page = view.page
    page.get_by_role("button", name="Change Workshop left").click()
    page.get_by_role("dialog", name="Change Workshop left").get_by_role("button", name="Remove…").click()
    asks = page.get_by_role("alertdialog")
    expect(asks).to_contain_text("Remove Workshop left?")
    asks.get_by_role("button", name="Remove", exact=True).click()
    expect(asks).to_be_hidden()
    expect(page.get_by_role("article")).to_have_count(0)
    expect(page.get_by_text("There is no printer yet.")).to_be_visible()
    step("removed")


def flow(browser, given):
    view = Browser(browser, given)
    log_in(view, given)
    broker = view.page.get_by_role("region", name="Broker")
    expect(broker.locator("#broker-state")).to_have_text("connected")
    expect(broker).to_contain_text(given["broker"])
    add(view, given)
    watch(view)
    change(view)
    told, texts = check(view, 3)
    if told != "Everything works." or not all(text.startswith("✓ Works") for text in texts):
        view.wrong.append(f"check says {told} {texts}")
    is_same(view)
    remove(view)
    is_same(view)
    view.done()


def fleet(browser, given):
    view = Browser(browser, given)
    log_in(view, given)
    page = view.page
    state = lambda name: card(page, name).locator("[data-is=state]")
    for name in ["Prusa MK3S", "Voron 2.4", "Ender 3"]:
        expect(state(name)).to_have_text("operational")
    step("print")
    expect(state("Prusa MK3S")).to_have_text("printing")
    expect(state("Voron 2.4")).to_have_text("paused")
    expect(card(page, "Voron 2.4")).to_contain_text("Print paused")
    expect(card(page, "Voron 2.4")).to_contain_text(re.compile(r"Tool 1.*Bed.*Chamber"))
    expect(page.get_by_role("button", name="Change Voron 2.4")).to_have_count(0)
    expect(page.get_by_role("button", name="Change Ender 3")).to_be_visible()
    expect(page.get_by_role("img", name="Preview of vase_0.2mm_PETG.gcode")).to_be_visible()
    expect(card(page, "Prusa MK3S")).to_contain_text(" min left")
    step("kill")
    expect(state("Ender 3")).to_have_text("offline")
    expect(card(page, "Ender 3").locator("[data-is=error]")).to_be_visible()
    expect(page.locator("#lines li", has_text="ender").first).to_be_visible()
    told, texts = check(view, 6)
    if not told.startswith("Problems: 1 of 6") or len([text for text in texts if text.startswith("✓ Works")]) != 5:
        view.wrong.append(f"check says {told} {texts}")
    graph = card(page, "Prusa MK3S").locator("svg[data-is=graph] path").first
    # As long as the picture shall have.
    expect(graph).to_have_attribute("d", re.compile("(L.*){%d}" % given["points"]), timeout=900_000)
    is_same(view)
    cookies = view.done()
    for scheme in SCHEMES:
        for size in SIZES:
            view = Browser(browser, given, size, scheme, cookies)
            view.page.goto(given["url"])
            expect(view.page.get_by_role("article")).to_have_count(3)
            expect(view.page.get_by_role("img", name="Preview of vase")).to_be_visible()
            view.has_pictures()
            view.accessible(f"{size} {scheme}")
            view.fits(f"{size} {scheme}")
            view.picture(f"printers-{size}-{scheme}")
            if size == "phone":
                # One screen of it, from the printer that prints on.
                card(view.page, "Prusa MK3S").evaluate("card => scrollTo(0, card.getBoundingClientRect().top - 10)")
                view.picture(f"screen-{scheme}", full_page=False)
            view.done()


def failed(browser, given):
    """Takes pictures of all that is open."""
    pages = [page for context in browser.contexts for page in context.pages]
    for number, page in enumerate(pages):
        page.screenshot(path=f"{given['directory']}/failed-{given['tour']}-{number}.png")


def main():
    given = json.loads(sys.argv[1])
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=[*QUIET, HOSTS])
        try:
            {"flow": flow, "fleet": fleet}[given["tour"]](browser, given)
        except (AssertionError, Error):
            failed(browser, given)
            raise
        browser.close()


main()
