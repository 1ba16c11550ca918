// Makes the one long page a handout: no solutions, a title, a table of contents, formulas with their sources.
([title, words, parts]) => {
  document.documentElement.dataset.theme = 'light';
  for (const solution of document.querySelectorAll('.solution, .onlyprint')) solution.remove();
  for (const folded of document.querySelectorAll('details.sd-dropdown')) folded.open = true;  // proofs and hints
  for (const image of document.images) image.loading = 'eager';
  // colours of code would make every word an element of the PDF; comments stay set off
  for (const span of document.querySelectorAll('pre span:not(.c1)')) span.replaceWith(...span.childNodes);
  for (const code of document.querySelectorAll('pre')) code.normalize();
  for (const formula of document.querySelectorAll('.math mjx-container')) {  // for a reader that speaks: its source
    formula.setAttribute('role', 'img');
    formula.setAttribute('aria-label', formula.closest('.math').dataset.tex);
    formula.querySelector('mjx-assistive-mml')?.remove();
  }
  const article = document.querySelector('.bd-article');
  const headed = (section, words) => words.test(section?.firstElementChild?.textContent);
  for (const last of article.querySelectorAll('section > section:last-of-type')) {  // no page for a closing line alone
    if (headed(last, /What.s next/) && headed(last.previousElementSibling, /Summary/)) {
      for (const part of [last.previousElementSibling, last]) part.classList.add('ending');
    }
  }
  const lines = [];
  [...article.querySelectorAll('.toctree-wrapper')].forEach((wrapper, k) => {
    wrapper.insertAdjacentHTML('afterbegin', `<h1 class="part">${parts[k]}</h1>`);
    lines.push(`<li class="part">${parts[k]}</li>`);
    for (const section of wrapper.querySelectorAll(':scope > section')) {
      const heading = section.querySelector('h2').cloneNode(true);
      heading.querySelector('.headerlink')?.remove();
      lines.push(`<li><a href="#${section.id}"><span>${heading.innerHTML}</span><span class="page">000</span></a></li>`);
    }
  });
  article.insertAdjacentHTML('afterbegin', `<div class="front"><p class="title">${title}</p>${words}</div>
    <div class="contents"><h1>Contents</h1><ol>${lines.join('')}</ol></div>`);
}
