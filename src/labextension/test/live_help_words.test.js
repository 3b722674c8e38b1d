// What is asked and told of live help, in words.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { helper, helpLifetimes, unused, WARNING } from '../build/lib/live_help_words.js';

const NOW = 1_800_000_000;

test('lifetimes in words, as the hub offers them', () => {
  const help = { longest_min: 60, lifetimes_min: [15, 30, 60], links: [], people: [] };
  assert.deepEqual(helpLifetimes(help), [
    { label: '15 min', minutes: 15 },
    { label: '30 min', minutes: 30 },
    { label: '1 h', minutes: 60 }
  ]);
});

test('who may come in, and until when', () => {
  const bob = { name: 'bob', since_s: NOW - 600, ends_s: NOW + 900 };
  assert.match(helper(bob, NOW), /^bob may come in, since .*, 15 min more$/);
  assert.match(unused({ id: '3', made_s: NOW, ends_s: NOW + 900 }, NOW), /^a link that nobody has used, good until /);
});

test('the warning says whose rights are given, and what gives less', () => {
  const said = WARNING.join(' ');
  for (const words of ['as you', 'all your files', 'your tokens', 'jobs in your name', 'share link']) {
    assert.ok(said.includes(words), words);
  }
});
