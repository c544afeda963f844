// The page from its start: who is here, sign in, stay signed in, sign out.

import { Gate, Session } from './client/parley.js';
import { busy, confirm } from './dialogs.js';
import { door, standstill } from './door.js';
import { chooseLanguage, reason, startLanguage, t } from './i18n.js';
import { fresh, restore } from './keep.js';
import { Model } from './model.js';
import { prefer, preference } from './shared/prefs.js';
import { shell } from './shell.js';

const HEARTBEAT = 15000; // ms: a person who only reads sees within 23 s that nothing can come

const root = document.getElementById('app');
const gate = new Gate('');
const night = matchMedia('(prefers-color-scheme: dark)');
let demo = [];
let orphans = null; // texts of a session that ended, for when the same user signs in again
let life = null; // {session, model, view, kept} of the user who is signed in

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
  if (language) {
    chooseLanguage(language);
    if (life) show();
  }
}

// ---- coming and going

/** Signs in: by password, or with what was kept of an earlier session. */
async function enter(credentials, kept) {
  const session = new Session({
    gate, device: kept.device, heartbeat: HEARTBEAT, storage: kept.storage, storageKey: kept.ticketKey, client: 'parley-web/1',
    ...(credentials ? { email: credentials.email, password: credentials.password } : {}),
  });
  const model = new Model(session, kept);
  model.gate = gate;
  await session.open();
  kept.save();
  if (orphans?.uid === session.user.uid) kept.unsent = orphans;
  orphans = null;
  life = { session, model, kept, view: null };
  model.on((what, id, error) => { if (what === 'closed') ended(error); });
  show();
  await begin(model);
}

/** Shows the page, again when the language changes. */
function show() {
  life.view?.close();
  life.view = shell(root, life.model, { settingsChanged, logout });
  if (life.model.loaded) life.view.begin();
}

/** Reads the conversations; a connection that breaks meanwhile only makes it take longer. */
async function begin(model) {
  while (life?.model === model) {
    try {
      await model.refresh();
      if (life?.model !== model) return;
      model.sendKept();
      life.view.begin();
      return;
    } catch {
      await new Promise((again) => setTimeout(again, 1000));
    }
  }
}

async function logout(everywhere) {
  const { session, model, kept } = life;
  const waiting = model.waiting();
  if (waiting && !await confirm(t('signOut'), t('signOutUnsent', { n: waiting }), t('signOut'))) return;
  if (everywhere && !await confirm(t('signOutAll'), t('signOutAllText'), t('signOutAll'))) return;
  await busy(null, () => (everywhere ? session.logoutEverywhere() : session.logout()));
  kept.forget();
}

/** The session has ended for good. */
function ended(error) {
  const { view, kept } = life;
  view?.close();
  life = null;
  if (error.name !== 'LoggedOut') orphans = kept.unsent;
  if (error.name === 'Replaced') {
    kept.forget();
    standstill(root, { title: t('replacedTitle'), text: t('replacedText'), action: t('signIn'), run: () => atDoor(null), image: 'out' });
  } else if (error.name === 'DataReplaced') {
    location.reload();
  } else {
    kept.forget();
    atDoor(error.name === 'LoggedOut' || error.name === 'Closed' ? null : error.name === 'TokenInvalid' ? t('signInAgain') : reason(error));
  }
}

function atDoor(notice) {
  door(root, {
    gate, demo, notice, toggleTheme,
    enter: async (credentials, stay) => enter(credentials, await fresh(stay)),
  });
}

async function start() {
  dress();
  startLanguage();
  const as = new URLSearchParams(location.hash.slice(1)).get('as');
  const [about, kept] = await Promise.all([fetch('page.json').then((r) => r.json()).catch(() => ({})), as ? null : restore()]);
  demo = about.demo ?? [];
  const user = demo.find((u) => u.name === as);
  if (user) {
    history.replaceState(null, '', location.pathname); // loaded again, it is this session's page
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
    if (error.advice !== 'retry') {
      orphans = kept.unsent;
      kept.forget();
      atDoor(t('signInAgain'));
      return;
    }
    standstill(root, { title: t('unreachable'), text: reason(error), action: t('tryAgain'), run: () => enter(null, kept), image: 'offline' });
  }
}

start();
