// How the site's search ranks pages. Sphinx gives a page the same for a word in any of its headings, and sorts equals by
// their numbers; here a page whose own title, or list in search_words.json, holds words of the query goes first.
var Scorer = {
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: {0: 5, 1: 0, 2: -5}, // of functions and classes; Sphinx's 15 puts an attribute before the chapter on it
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
  inPageTitle: 12, // for each word of the query

  score: ([docname, title, anchor, descr, score]) => {
    const stemmer = new Stemmer();
    const stems = (text) => splitQuery(text.toLowerCase()).map((word) => stemmer.stemWord(word));
    const index = Search._index;
    const own = index.titles[index.docnames.indexOf(docname)] ?? "";
    const ofPage = new Set(stems(`${own} ${ALSO_CALLED[docname] ?? ""}`));
    const wanted = new Set(stems(new URLSearchParams(window.location.search).get("q") ?? ""));
    return score + Scorer.inPageTitle * [...wanted].filter((word) => ofPage.has(word)).length;
  },
};
