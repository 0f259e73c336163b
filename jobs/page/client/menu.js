// Options of a menu of columns, in groups.
import { element } from "./dom.js";

export function columnOptions(survey, columns) {
  const option = ({ name, description }) => element("option", { value: name, title: description }, name);
  const members = (group) => columns.filter((column) => column.group === group).map(option);
  const groups = survey.meta.groups.map((group) => [group, members(group)]).filter(([, options]) => options.length);
  return groups.map(([label, options]) => element("optgroup", { label }, ...options));
}
