// What axe-core asks of the theme: a name for the search dialog, and tables that scroll by the keyboard too.
document.querySelector(".md-search").setAttribute("aria-label", "Search");
document$.subscribe(() => {
  for (const table of document.querySelectorAll(".md-typeset__scrollwrap")) table.tabIndex = 0;
});
