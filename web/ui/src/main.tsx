import { render } from 'preact';
import { App } from './app/app.js';
import { followLinks } from './state/route.js';
import { resume } from './state/resume.js';
import { loadSession } from './state/session.js';
import './app/base.css';
import './app/parts.css';
import './app/screens.css';

followLinks();
void loadSession().then(resume);
render(<App />, document.getElementById('app')!);
