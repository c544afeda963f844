// The first script of the page: has the modules load once the first frame is on its way to the screen.

const load = () => {
  document.head.append(document.getElementById('modules').content);
  import('./app.js');
};

if (document.hidden) load();
else requestAnimationFrame(() => setTimeout(load));
