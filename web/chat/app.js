// The page from its start: how it looks, and who is here.

import { Gate } from './client/gate.js';
import { door, standstill } from './door.js';
import { chooseLanguage, reason, startLanguage, t } from './i18n.js';
import { fresh, restore } from './keep.js';
import { prefer, preference } from './shared/prefs.js';

const root = document.getElementById('app');
const gate = new Gate('');
const night = matchMedia('(prefers-color-scheme: dark)');
let demo = [];

// ---- looks

function dress() {
  const theme = preference('theme', 'auto');
  document.documentElement.dataset.theme = theme === 'auto' ? (night.matches ? 'dark' : 'light') : theme;
}
night.addEventListener('change', dress);

function toggleTheme() {
  prefer('theme', document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark');
  dress();
}

function settingsChanged({ language, theme }) {
  if (theme) {
    prefer('theme', theme);
    dress();
  }
  if (language) chooseLanguage(language);
}

// ---- coming and going

/** Has the browser load what a session needs. It does not ask for anything twice. */
const loadMore = () => document.head.append(document.getElementById('more').content);

/** Signs in. */
async function enter(credentials, kept) {
  loadMore();
  const life = await import('./life.js');
  await life.enter({ root, gate, atDoor, settingsChanged }, credentials, kept);
}

function atDoor(notice) {
  door(root, {
    gate, demo, notice, toggleTheme,
    enter: async (credentials, stay) => enter(credentials, await fresh(stay)),
  });
  requestAnimationFrame(() => setTimeout(loadMore)); // while the person reads
}

async function start() {
  dress();
  startLanguage();
  const as = new URLSearchParams(location.hash.slice(1)).get('as');
  const [about, kept] = await Promise.all([fetch('page.json').then((r) => r.json()).catch(() => ({})), as ? null : restore()]);
  demo = about.demo ?? [];
  const user = demo.find((u) => u.name === as);
  if (user) {
    history.replaceState({ talk: true }, '', location.pathname); // loaded again, it is this session's page
    await enter(user, await fresh(false)).catch((error) => atDoor(reason(error)));
    return;
  }
  if (!kept) {
    atDoor(null);
    return;
  }
  try {
    await enter(null, kept);
  } catch (error) {
    if ('advice' in error && error.advice !== 'retry') {
      atDoor(t('signInAgain'));
      return;
    }
    standstill(root, { title: t('unreachable'), text: reason(error), action: t('tryAgain'), run: () => enter(null, kept), image: 'offline' });
  }
}

start();
