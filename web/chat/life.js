// The session of the person who is signed in, from its beginning to its end.

import { Session } from './client/parley.js';
import { busy, confirm } from './dialogs.js';
import { standstill } from './door.js';
import { reason, t } from './i18n.js';
import { Model } from './model.js';
import { shell } from './shell.js';

const HEARTBEAT = 15000; // ms: a person who only reads sees within 23 s that nothing can come

let page = null; // {root, gate, atDoor, settingsChanged}
let orphans = null; // texts of a session that ended, for when the same user signs in again
let life = null; // {session, model, view, kept} of the user who is signed in

/** Signs in: by password, or with what was kept of an earlier session. `on` is the page: what it stands on, and what it can do. */
export async function enter(on, credentials, kept) {
  page = on;
  const { gate } = page;
  const session = new Session({
    gate, device: kept.device, heartbeat: HEARTBEAT, storage: kept.storage, storageKey: kept.ticketKey, client: 'parley-web/1',
    ...(credentials ? { email: credentials.email, password: credentials.password } : {}),
  });
  const model = new Model(session, kept);
  model.gate = gate;
  try {
    await session.open();
  } catch (error) {
    if (!credentials && error.advice !== 'retry') {
      orphans = kept.unsent;
      kept.forget();
    }
    throw error;
  }
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
  life.view = shell(page.root, life.model, { settingsChanged, logout });
  if (life.model.loaded) life.view.begin();
}

function settingsChanged(settings) {
  page.settingsChanged(settings);
  if (settings.language && life) show();
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
    standstill(page.root, { title: t('replacedTitle'), text: t('replacedText'), action: t('signIn'), run: () => page.atDoor(null), image: 'out' });
  } else if (error.name === 'DataReplaced') {
    location.reload();
  } else {
    kept.forget();
    page.atDoor(error.name === 'LoggedOut' || error.name === 'Closed' ? null : error.name === 'TokenInvalid' ? t('signInAgain') : reason(error));
  }
}
