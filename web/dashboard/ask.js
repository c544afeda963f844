// The dialog that confirms an action, or asks for the token.

import { $, say } from './dom.js';

/**
 * Asks, and does. content is a node, yes the text of the button. act is called when it is pressed; if it throws, the dialog stays and
 * shows why. Returns when the dialog closes.
 */
export function ask({ title, content, yes, danger = false, required = false, act }) {
  const dialog = $('ask');
  if (dialog.open) {
    return Promise.resolve();
  }
  say($('ask-title'), title);
  $('ask-text').replaceChildren(content);
  const button = $('ask-yes');
  say(button, yes);
  button.className = danger ? 'button danger' : 'button primary';
  button.disabled = false;
  $('ask-error').hidden = true;
  $('ask-no').hidden = required;
  const form = dialog.querySelector('form');
  return new Promise((done) => {
    const close = () => dialog.close();
    form.onsubmit = async (e) => {
      e.preventDefault();
      button.disabled = true;
      try {
        await act();
        close();
      } catch (err) {
        say($('ask-error'), err.message);
        $('ask-error').hidden = false;
      }
      button.disabled = false;
    };
    $('ask-no').onclick = close;
    dialog.oncancel = (e) => required && e.preventDefault();
    dialog.onclose = done;
    dialog.showModal();
  });
}
